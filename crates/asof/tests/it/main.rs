//! The real binary over real projects.

#[cfg(test)]
mod busy;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod consistency;
#[cfg(test)]
mod derived;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod grpc;
#[cfg(test)]
mod kept;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod nodes;
#[cfg(test)]
mod outputs;
#[cfg(test)]
mod power_loss;
#[cfg(test)]
mod project;
#[cfg(test)]
mod projects;
#[cfg(test)]
mod pushing;
#[cfg(test)]
mod retail;
#[cfg(test)]
mod soak;
#[cfg(test)]
mod wrong;
