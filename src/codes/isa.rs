//! The instruction set in use: the only place of this module that asks the CPU.
//!
//! A [`Kernel`] has one method per instruction set; [`Isa::run`] calls the one for this CPU, inlined into a function
//! that is compiled for it.

use std::sync::LazyLock;

/// An instruction set that this CPU has: nothing but [`detect`](Self::detect) and `available` makes one other than
/// [`PORTABLE`](Self::PORTABLE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Isa(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

/// Proof that the CPU has AVX2.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Avx2(());

/// Proof that the CPU has AVX-512 F, BW, VL and VNNI, and AVX2.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Avx512(());

#[cfg(target_arch = "x86_64")]
fn detect_avx2() -> Option<Avx2> {
    is_x86_feature_detected!("avx2").then_some(Avx2(()))
}

#[cfg(target_arch = "x86_64")]
fn detect_avx512() -> Option<Avx512> {
    let has = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni");
    has.then_some(Avx512(()))
}

impl Isa {
    /// What every CPU of this architecture has.
    pub const PORTABLE: Self = Self(Set::Portable);

    /// All instruction sets that this CPU runs, the best one last.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut all = vec![Self::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(detect_avx2().map(|avx2| Self(Set::Avx2(avx2))));
            all.extend(detect_avx512().map(|avx512| Self(Set::Avx512(avx512))));
        }
        all
    }

    /// The best instruction set of this CPU. The CPU is asked once per process.
    #[inline]
    pub fn detect() -> Self {
        static BEST: LazyLock<Isa> = LazyLock::new(|| Isa::available().pop().unwrap_or(Isa::PORTABLE));
        *BEST
    }

    /// Runs a kernel as it was compiled for this instruction set.
    // Unsafe is only the call of a function that needs features of the CPU.
    #[allow(unsafe_code)]
    #[inline(always)]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Set::Portable => kernel.portable(),
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

/// A computation that is compiled once per instruction set, with the same result on each. Methods are
/// `#[inline(always)]`.
pub(super) trait Kernel: Sized {
    /// What is computed.
    type Output;

    /// The computation, without intrinsics.
    fn portable(self) -> Self::Output;

    /// The computation where the CPU has AVX2.
    #[cfg(target_arch = "x86_64")]
    fn avx2(self, avx2: Avx2) -> Self::Output;

    /// The computation where the CPU has AVX-512.
    #[cfg(target_arch = "x86_64")]
    fn avx512(self, avx512: Avx512) -> Self::Output;
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn run_avx2<K: Kernel>(kernel: K, avx2: Avx2) -> K::Output {
    kernel.avx2(avx2)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2")]
fn run_avx512<K: Kernel>(kernel: K, avx512: Avx512) -> K::Output {
    kernel.avx512(avx512)
}
