//! The seam to randomness: the only place that draws, so that a simulation can bring its own numbers.

use std::fmt;
use std::sync::Arc;

/// Draws numbers that nobody can guess and nobody draws again: incarnations and ids. Clones draw from the same source.
#[derive(Clone)]
pub struct Random(Arc<dyn Fn() -> Result<u64, RandomError> + Send + Sync>);

/// The system gives no random numbers. Ids must be unique, so there is no replica without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers: {0}")]
pub struct RandomError(#[from] getrandom::Error);

impl Random {
    /// The system's numbers.
    pub fn system() -> Random {
        Random(Arc::new(|| Ok(getrandom::u64()?)))
    }

    /// Numbers that `draw` gives, which must differ from each other.
    pub fn of(draw: impl Fn() -> u64 + Send + Sync + 'static) -> Random {
        Random(Arc::new(move || Ok(draw())))
    }

    /// The next number.
    ///
    /// # Errors
    ///
    /// Where the system gives none.
    pub fn draw(&self) -> Result<u64, RandomError> {
        (self.0)()
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}
