//! Work shared out to threads that others start.

/// A piece of work.
pub type Work<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Threads that share work. This room starts none.
pub trait Threads: Sync {
    /// How many there are.
    fn count(&self) -> usize;

    /// Does all pieces, in whatever order; none of them waits for another.
    fn work(&self, pieces: Vec<Work<'_>>);
}

/// The thread that asks, alone.
#[derive(Debug, Clone, Copy)]
pub struct Alone;

impl Threads for Alone {
    fn count(&self) -> usize {
        1
    }

    fn work(&self, pieces: Vec<Work<'_>>) {
        pieces.into_iter().for_each(|piece| piece());
    }
}

/// What each item comes to, in their order.
pub(crate) fn each<T: Send, R: Send>(
    threads: &dyn Threads,
    items: impl Iterator<Item = T>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let items: Vec<T> = items.collect();
    let mut made: Vec<Option<R>> = items.iter().map(|_| None).collect();
    let work = &work;
    let pieces = items
        .into_iter()
        .zip(&mut made)
        .map(|(item, made)| -> Work<'_> { Box::new(move || *made = Some(work(item))) });
    threads.work(pieces.collect());
    made.into_iter().flatten().collect()
}
