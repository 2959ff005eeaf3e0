#include "cpu.h"

#include <stdatomic.h>

#if defined(__x86_64__)
#include <cpuid.h>

/* Register state that the operating system saves: XCR0. */
static uint64_t xcr0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static unsigned features_of_cpu(void)
{
    const uint64_t ymm = 0x6, zmm = 0xe6;
    const uint32_t avx2 = 1u << 5, avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  /* F, DQ, BW, VL */
    uint32_t a, b, c, d;
    unsigned features = FBP_CPU_BASE;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return features;
    const int fma = c >> 12 & 1, osxsave = c >> 27 & 1, avx = c >> 28 & 1;
    if (!fma || !osxsave || !avx || (xcr0() & ymm) != ymm) return features;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return features;
    if (b & avx2) features |= FBP_CPU_AVX2;
    if ((features & FBP_CPU_AVX2) && (b & avx512) == avx512 && (xcr0() & zmm) == zmm) features |= FBP_CPU_AVX512;
    return features;
}
#elif defined(__aarch64__)
static unsigned features_of_cpu(void) { return FBP_CPU_BASE | FBP_CPU_NEON; }      /* part of the architecture */
#else
static unsigned features_of_cpu(void) { return FBP_CPU_BASE; }
#endif

/* Asked once: in a virtual machine cpuid leaves it, and takes 10 us. */
unsigned fbp_cpu_features(void)
{
    static atomic_uint known;
    unsigned features = atomic_load_explicit(&known, memory_order_relaxed);
    if (features == 0) {
        features = features_of_cpu();
        atomic_store_explicit(&known, features, memory_order_relaxed);
    }
    return features;
}
