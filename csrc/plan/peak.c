/* peak.c: what one core can do at most, so that figures can be quoted as a share of it. */
#include "../base/clock.h"
#include "../base/cpu.h"
#include "../fbp.h"
#include "../kernels/kernels.h"

/* Over the whole time: what disturbs the core disturbs whatever is measured beside this as well. */
double fbp_fma_peak(const char *isa, int dtype, double time)
{
    const struct fbp_kernels *k = isa ? fbp_kernels_find(isa, dtype) : fbp_kernels_default(dtype);
    if (k == NULL) return 0;
    const fbp_float_mode mode = fbp_float_enter();
    double operations = 0, passed;
    const double start = fbp_seconds();
    do {
        operations += k->fma_loop(20000);
        passed = fbp_seconds() - start;
    } while (passed < time);
    fbp_float_leave(mode);
    return operations / passed;
}

const char *fbp_isa_name(int i) { return i < 0 ? NULL : fbp_kernels_isa((size_t)i); }
