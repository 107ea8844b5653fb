//! Views into the online store, over real files, a real registry and a real store.

#[cfg(test)]
mod cases;
#[cfg(test)]
mod changed_past;
#[cfg(test)]
mod clocks;
#[cfg(test)]
mod corrections;
#[cfg(test)]
mod delta_table;
#[cfg(test)]
mod disturbed;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod flushing;
#[cfg(test)]
mod increments;
#[cfg(test)]
mod interrupted;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod letting_go;
#[cfg(test)]
mod live_worlds;
#[cfg(test)]
mod loading;
#[cfg(test)]
mod long_keys;
#[cfg(test)]
mod materialize;
#[cfg(test)]
mod node;
#[cfg(test)]
mod past;
#[cfg(test)]
mod pushed;
#[cfg(test)]
mod pushing;
#[cfg(test)]
mod refresh;
#[cfg(test)]
mod serving;
#[cfg(test)]
mod versions_served;
#[cfg(test)]
mod worlds;
