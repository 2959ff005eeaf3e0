/* peak.c: what one core can do at most, so that figures can be quoted as a share of it. */
#include "../base/clock.h"
#include "../base/cpu.h"
#include "../fbp.h"
#include "../kernels/kernels.h"

/* The best of many short rounds: a round that another process disturbed does not count. */
double fbp_fma_peak(const char *isa, int dtype, double time)
{
    const struct fbp_kernels *k = isa ? fbp_kernels_find(isa, dtype) : fbp_kernels_default(dtype);
    if (k == NULL) return 0;
    const fbp_float_mode mode = fbp_float_enter();
    double best = 0;
    const double start = fbp_seconds();
    do {
        const double t = fbp_seconds(), operations = k->fma_loop(20000), rate = operations / (fbp_seconds() - t);
        if (rate > best) best = rate;
    } while (fbp_seconds() - start < time);
    fbp_float_leave(mode);
    return best;
}

const char *fbp_isa_name(int i) { return i < 0 ? NULL : fbp_kernels_isa((size_t)i); }
