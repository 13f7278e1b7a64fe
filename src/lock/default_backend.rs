//! What the two locks of our own have alike: constructors with the default backend, their ops, and what loom needs.

/// What a lock with `words` and `ops`, made by its `at`, has besides: constructors, its ops, and what loom needs.
macro_rules! default_backend {
    ($lock:ident) => {
        impl $lock {
            /// A free lock, with the default backend and the best fence the kernel offers.
            pub fn new() -> Self {
                $crate::lock::fence::choose();
                Self::with_ops($crate::lock::ops::Default::default())
            }
        }

        impl Default for $lock {
            fn default() -> Self {
                Self::new()
            }
        }

        impl<O> $lock<O> {
            $crate::lock::sync::const_fn! {
                /// A free lock that is enlightened by these ops. It asks for the fence at its first release.
                pub fn with_ops(ops: O) -> Self {
                    Self::at(0, ops)
                }
            }

            /// The ops it calls on the slow path.
            pub fn ops(&self) -> &O {
                &self.ops
            }

            /// What freeing it would be.
            #[cfg(loom)]
            pub fn retire(&self) {
                self.words.retire();
            }
        }
    };
}
pub(crate) use default_backend;
