/* table.c: which tables were built in, and which of them this CPU can run. */
#include <stdlib.h>
#include <string.h>

#include "../base/cpu.h"
#include "../fbp.h"
#include "kernels.h"

extern const struct fbp_kernels fbp_kernels_base_f32, fbp_kernels_base_f64;
#if defined(__x86_64__)
extern const struct fbp_kernels fbp_kernels_avx512_f32, fbp_kernels_avx512_f64, fbp_kernels_avx2_f32, fbp_kernels_avx2_f64;
#elif defined(__aarch64__)
extern const struct fbp_kernels fbp_kernels_neon_f32, fbp_kernels_neon_f64;
#endif

/* Best first; [dtype]. */
static const struct {
    const char *isa;
    unsigned feature;
    const struct fbp_kernels *table[2];
} built[] = {
#if defined(__x86_64__)
    {"avx512", FBP_CPU_AVX512, {&fbp_kernels_avx512_f32, &fbp_kernels_avx512_f64}},
    {"avx2", FBP_CPU_AVX2, {&fbp_kernels_avx2_f32, &fbp_kernels_avx2_f64}},
#elif defined(__aarch64__)
    {"neon", FBP_CPU_NEON, {&fbp_kernels_neon_f32, &fbp_kernels_neon_f64}},
#endif
    {"base", FBP_CPU_BASE, {&fbp_kernels_base_f32, &fbp_kernels_base_f64}},
};
#define BUILT (sizeof built / sizeof built[0])

const struct fbp_kernels *fbp_kernels_find(const char *isa, int dtype)
{
    const unsigned features = fbp_cpu_features();
    for (size_t i = 0; i < BUILT; i++)
        if (strcmp(isa, built[i].isa) == 0 && (features & built[i].feature)) return built[i].table[dtype];
    return NULL;
}

const char *fbp_kernels_isa(size_t i)
{
    const unsigned features = fbp_cpu_features();
    for (size_t b = 0; b < BUILT; b++)
        if ((features & built[b].feature) && i-- == 0) return built[b].isa;
    return NULL;
}

const struct fbp_kernels *fbp_kernels_default(int dtype)
{
    const char *asked = getenv("FASTBP_ISA");
    return fbp_kernels_find(asked && *asked ? asked : fbp_kernels_isa(0), dtype);
}
