/* loss.c: a loss and its gradient by themselves, without a network. */
#include <float.h>
#include <math.h>

#include "../base/cpu.h"
#include "plan.h"

#define LOSS_ROWS 64

/* The table is looked up once: asking the CPU what it is takes longer than a small step. */
static const struct fbp_loss_kernels *row_of_table(int i)
{
    static const struct fbp_kernels *_Atomic table;
    const struct fbp_kernels *k = atomic_load(&table);
    if (k == NULL) atomic_store(&table, k = fbp_kernels_find("base", FBP_F32));
    return i >= 0 && i < FBP_LOSS_COUNT ? &k->loss[i] : NULL;
}

const char *fbp_loss_name(int i)
{
    const struct fbp_loss_kernels *row = row_of_table(i);
    return row ? row->name : NULL;
}

int fbp_loss_takes_labels(int i)
{
    const struct fbp_loss_kernels *row = row_of_table(i);
    return row && row->labels;
}

int64_t fbp_loss_target_width(int i, int64_t outputs)
{
    const struct fbp_loss_kernels *row = row_of_table(i);
    return row && outputs % row->outputs_per_target == 0 ? outputs / row->outputs_per_target : 0;
}

/* Sum of n numbers, in order, cut every FBP_REDUCTION_ROWS. */
double fbp_ordered_sum(const double *v, int64_t n)
{
    double total = 0;
    for (int64_t r = 0; r < n; r += FBP_REDUCTION_ROWS) {
        double part = 0;
        for (int64_t i = r; i < n && i < r + FBP_REDUCTION_ROWS; i++) part += v[i];
        total += part;
    }
    return total;
}

void fbp_loss_range(int i, double *least, double *most)
{
    const struct fbp_loss_kernels *row = row_of_table(i);
    *least = row ? row->least : -INFINITY;
    *most = row ? row->most : INFINITY;
}

int fbp_check_weights(const double *weight, int64_t rows, int64_t *where, double *sum)
{
    *sum = 0;
    for (int64_t i = 0; i < rows; i++) {
        if (!(weight[i] >= 0 && isfinite(weight[i]))) {
            *where = i;
            return FBP_BAD_WEIGHT;
        }
        *sum += weight[i];
    }
    return FBP_OK;
}

int fbp_loss_gradient(int loss, int dtype, const void *out, int64_t width, const struct fbp_array *y, int labels,
                      const double *weight, double a, double *value, void *dout)
{
    const struct fbp_kernels *k = fbp_kernels_default(dtype);
    if (k == NULL) return FBP_NO_ISA;
    if (loss < 0 || loss >= FBP_LOSS_COUNT) return FBP_BAD_GRAPH;
    const int64_t rows = y->rows, target_width = fbp_loss_target_width(loss, width);
    const double weights = weight ? fbp_ordered_sum(weight, rows) : (double)rows;   /* as in a training step */
    if (weights < DBL_MIN) {                                            /* rows that all weigh nothing have loss 0 */
        *value = 0;
        memset(dout, 0, (size_t)(rows * width) * k->size);
        return FBP_OK;
    }
    struct fbp_arena arena = {0};
    (void)fbp_arena_cut(&arena, LOSS_ROWS, (size_t)target_width, k->size);
    const int status = fbp_arena_open(&arena);
    if (status != FBP_OK) return status;
    char *copy = fbp_arena_cut(&arena, LOSS_ROWS, (size_t)target_width, k->size);
    int64_t label[LOSS_ROWS];
    const void *target[LOSS_ROWS];
    double row_loss[LOSS_ROWS], total = 0, part = 0;
    int wrong = 0;
    const fbp_float_mode mode = fbp_float_enter();
    for (int64_t r = 0; r < rows; r += LOSS_ROWS) {
        const int64_t m = rows - r < LOSS_ROWS ? rows - r : LOSS_ROWS;
        const size_t at = (size_t)(r * width) * k->size;
        for (int64_t i = 0; i < m; i++) {
            if (labels) {
                const int64_t found = fbp_array_label(y, r + i);
                wrong |= (uint64_t)found >= (uint64_t)width;            /* the caller's array changed under us */
                label[i] = wrong ? 0 : found;
            } else fbp_array_convert(y, r + i, dtype, copy + (size_t)(i * target_width) * k->size);
            target[i] = copy + (size_t)(i * target_width) * k->size;
        }
        k->loss[loss].rows(&(struct fbp_loss_rows){
            .m = (size_t)m, .n = (size_t)width, .out = (const char *)out + at, .ldo = width, .target = target,
            .label = labels ? label : NULL, .scale = 1.0 / weights, .weight = weight ? weight + r : NULL, .a = a, .loss = row_loss,
            .grad = (char *)dout + at, .ldg = width});
        for (int64_t i = 0; i < m; i++) part += row_loss[i];
        if ((r + m) % FBP_REDUCTION_ROWS == 0 || r + m == rows) {
            total += part;
            part = 0;
        }
    }
    fbp_float_leave(mode);
    fbp_arena_close(&arena);
    *value = total / weights;
    return wrong ? FBP_BAD_LABEL : FBP_OK;
}
