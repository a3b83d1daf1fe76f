//! The instruction set in use: the only place that asks the CPU, and the only call into code compiled for its answer.
//!
//! A [`Kernel`] is written once, portably and with `#[inline(always)]`; [`Isa::run`] inlines it into one function per
//! instruction set, so that the compiler vectorizes it for each. Where intrinsics are better, a kernel has a method for
//! that instruction set.
//!
//! ```ignore
//! struct Sum<'a>(&'a [i32]);
//!
//! impl Kernel for Sum<'_> {
//!     type Output = i32;
//!
//!     #[inline(always)]
//!     fn portable(self) -> i32 {
//!         self.0.iter().sum()
//!     }
//! }
//!
//! let sum = Isa::detect().run(Sum(&values));
//! ```
//! Whatever a kernel calls must be `#[inline(always)]` too, or it is compiled for the baseline.

use std::sync::LazyLock;

/// An instruction set that this CPU has. Holding one other than [`PORTABLE`](Self::PORTABLE) proves that the CPU was
/// asked: nothing but [`detect`](Self::detect) and `available` makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Isa(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

/// Proof that the CPU has AVX2, FMA and POPCNT.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx2(());

#[cfg(target_arch = "x86_64")]
impl Avx2 {
    fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("popcnt");
        has.then_some(Self(()))
    }
}

/// Proof that the CPU has AVX-512 F, BW, VL, VNNI and VPOPCNTDQ, and all of [`Avx2`].
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx512(());

#[cfg(target_arch = "x86_64")]
impl Avx512 {
    fn detect() -> Option<Self> {
        Avx2::detect()?;
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx512vpopcntdq");
        has.then_some(Self(()))
    }
}

impl Isa {
    /// What every CPU of this architecture has.
    pub const PORTABLE: Self = Self(Set::Portable);

    /// The best instruction set of this CPU. The CPU is asked once per process.
    #[inline]
    pub fn detect() -> Self {
        static BEST: LazyLock<Isa> = LazyLock::new(Isa::best);
        *BEST
    }

    fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(avx512) = Avx512::detect() {
                return Self(Set::Avx512(avx512));
            }
            if let Some(avx2) = Avx2::detect() {
                return Self(Set::Avx2(avx2));
            }
        }
        Self::PORTABLE
    }

    /// All instruction sets that this CPU runs, so that tests can force each.
    #[cfg(test)]
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut all = vec![Self::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(Avx2::detect().map(|avx2| Self(Set::Avx2(avx2))));
            all.extend(Avx512::detect().map(|avx512| Self(Set::Avx512(avx512))));
        }
        all
    }

    /// Runs a kernel as it was compiled for this instruction set.
    // Unsafe is only the call of a function that needs features of the CPU.
    #[allow(unsafe_code)]
    #[inline(always)]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Set::Portable => run_portable(kernel),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(avx2) => {
                // SAFETY: `avx2` proves that the CPU has the features.
                unsafe { run_avx2(kernel, avx2) }
            }
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(avx512) => {
                // SAFETY: `avx512` proves that the CPU has the features.
                unsafe { run_avx512(kernel, avx512) }
            }
        }
    }
}

/// A computation that is compiled once per instruction set. Every method is `#[inline(always)]`, and gives the result
/// of [`portable`](Self::portable) to the bit.
pub(crate) trait Kernel: Sized {
    /// What is computed.
    type Output;

    /// The computation, without intrinsics.
    fn portable(self) -> Self::Output;

    /// The computation where the CPU has AVX2.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn avx2(self, avx2: Avx2) -> Self::Output {
        let _ = avx2;
        self.portable()
    }

    /// The computation where the CPU has AVX-512.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn avx512(self, avx512: Avx512) -> Self::Output {
        let _ = avx512;
        self.portable()
    }
}

// Not inlined: where there is something better, it would only be in the way.
#[inline(never)]
fn run_portable<K: Kernel>(kernel: K) -> K::Output {
    kernel.portable()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,popcnt")]
fn run_avx2<K: Kernel>(kernel: K, avx2: Avx2) -> K::Output {
    kernel.avx2(avx2)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vpopcntdq,avx2,fma,popcnt")]
fn run_avx512<K: Kernel>(kernel: K, avx512: Avx512) -> K::Output {
    kernel.avx512(avx512)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Name;

    impl Kernel for Name {
        type Output = &'static str;

        fn portable(self) -> &'static str {
            "portable"
        }

        #[cfg(target_arch = "x86_64")]
        fn avx2(self, _: Avx2) -> &'static str {
            "avx2"
        }

        #[cfg(target_arch = "x86_64")]
        fn avx512(self, _: Avx512) -> &'static str {
            "avx512"
        }
    }

    #[test]
    fn each_instruction_set_runs_its_own_method_and_the_best_is_in_use() {
        let names: Vec<&str> = Isa::available().into_iter().map(|isa| isa.run(Name)).collect();
        println!("this CPU runs {names:?}");
        assert_eq!(names, ["portable", "avx2", "avx512"][..names.len()]);
        assert_eq!(Isa::available().last(), Some(&Isa::detect()));
        assert_eq!(Isa::PORTABLE.run(Name), "portable");
    }
}
