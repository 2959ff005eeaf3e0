/* cpu.h: what this CPU can do, and its floating-point mode. */
#ifndef FBP_CPU_H
#define FBP_CPU_H

#include <stdint.h>

enum fbp_cpu_feature { FBP_CPU_BASE = 1, FBP_CPU_AVX2 = 2, FBP_CPU_AVX512 = 4, FBP_CPU_NEON = 8 };
/* The features the CPU has and the operating system saves, as a mask. */
unsigned fbp_cpu_features(void);

/* Denormals are flushed inside kernels, rounding is to nearest; the caller's mode comes back with fbp_float_leave. */
#if defined(__x86_64__) || defined(__SSE2__)
#include <xmmintrin.h>
typedef unsigned fbp_float_mode;
#define FBP_MXCSR (0x1f80u | 0x8000u | 0x0040u)     /* all exceptions masked, FTZ, DAZ */
static inline fbp_float_mode fbp_float_enter(void)
{
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(FBP_MXCSR);
    return mode;
}
static inline void fbp_float_leave(fbp_float_mode mode) { _mm_setcsr(mode); }
static inline void fbp_cpu_relax(void) { _mm_pause(); }
#elif defined(__aarch64__)
typedef uint64_t fbp_float_mode;
static inline fbp_float_mode fbp_float_enter(void)
{
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)1 << 24));     /* FZ */
    return mode;
}
static inline void fbp_float_leave(fbp_float_mode mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }
static inline void fbp_cpu_relax(void) { __asm__ volatile("yield"); }
#else
typedef int fbp_float_mode;
static inline fbp_float_mode fbp_float_enter(void) { return 0; }
static inline void fbp_float_leave(fbp_float_mode mode) { (void)mode; }
static inline void fbp_cpu_relax(void) {}
#endif

#endif
