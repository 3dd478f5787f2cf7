//! A hook for tests. It is called before each step that reads the watched database, on the same
//! thread.
//!
//! It is compiled only with `cfg(test)`.

#[cfg(test)]
thread_local! {
    static HOOK: std::cell::RefCell<Option<Box<dyn FnMut()>>> = const { std::cell::RefCell::new(None) };
}

/// The caller is about to read the database.
#[inline]
pub(crate) fn reached() {
    #[cfg(test)]
    HOOK.with(|hook| {
        // The hook may use SQLite, but no part of this crate.
        if let Ok(mut hook) = hook.try_borrow_mut()
            && let Some(hook) = hook.as_mut()
        {
            hook();
        }
    });
}

/// Sets the hook of this thread.
#[cfg(test)]
pub(crate) fn set(hook: Option<Box<dyn FnMut()>>) {
    HOOK.with(|slot| *slot.borrow_mut() = hook);
}
