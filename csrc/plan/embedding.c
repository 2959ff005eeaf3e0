/* embedding.c: O = [W[x_0] W[x_1] ...], rows of W that x names; x has no gradient. That of W: weights.c. */
#include <string.h>

#include "../base/cpu.h"
#include "plan.h"

static int64_t category_of(double value, size_t categories)
{
    const int64_t i = value >= 0 && value < (double)categories ? (int64_t)value : -1;
    return (double)i == value ? i : -1;
}

/* The category in column c of row r of what an embedding takes, or -1 if it is none. */
static int64_t category(const struct fbp_plan *plan, const struct workspace *ws, int g, size_t r, size_t c)
{
    const struct gate *gate = &plan->gate[g];
    const void *x = ws->gate[gate->in[0].from].out_row[r];
    return category_of(plan->dtype == FBP_F32 ? (double)((const float *)x)[c] : ((const double *)x)[c], gate->weights);
}

void fbp_embedding_forward(const struct pass *p, int g, int to, size_t r0, size_t r1)
{
    const struct fbp_plan *plan = p->plan;
    const struct gate *gate = &plan->gate[g];
    const size_t columns = gate->width / gate->units, size = plan->kernels->size;
    for (size_t r = r0; r < r1; r++)
        for (size_t c = 0; c < columns; c++) {
            const int64_t i = category(plan, p->ws, g, r, c);
            if (i < 0) atomic_store(p->bad, FBP_BAD_INDEX);
            memcpy(fbp_out_at(p, to, r) + c * gate->units * size,
                   fbp_at(plan, plan->params, gate->w + (size_t)(i < 0 ? 0 : i) * gate->units), gate->units * size);
        }
    fbp_activate(p, to, r0, r1);
}

void fbp_embedding_backward(const struct pass *p, int g, size_t r0, size_t r1)
{
    const struct edge *e = &p->plan->gate[g].in[0];
    if (!fbp_gradient_wanted(p, e->from)) return;
    if (e->first) fbp_clear(p, e->from, r0, r1);
    if (e->last) fbp_deactivate(p, e->from, r0, r1);
}

/* The elements of the batch in order of the units they concern, and in each in their own order: sorted by counting. */
static void sort_elements(const struct fbp_plan *plan, struct workspace *ws, int g, size_t rows)
{
    const struct gate *gate = &plan->gate[g];
    const struct buffers *b = &ws->gate[g];
    const size_t columns = gate->width / gate->units, units = fbp_embedding_units(gate), height = fbp_unit_rows(gate);
    memset(b->end, 0, units * sizeof *b->end);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++) {
            const int64_t i = category(plan, ws, g, r, c);
            b->category[r * columns + c] = i < 0 ? 0 : (size_t)i;       /* the caller's array changed under us */
            b->end[b->category[r * columns + c] / height]++;
        }
    for (size_t u = 0, before = 0; u < units; u++) {                    /* now where those of unit u begin */
        const size_t count = b->end[u];
        b->end[u] = before;
        before += count;
    }
    for (size_t e = 0; e < rows * columns; e++) b->element[b->end[b->category[e] / height]++] = e;
}

void fbp_embedding_sort(const struct fbp_plan *plan, struct workspace *ws, size_t rows)
{
    for (int g = 0; g < plan->gates; g++)
        if (plan->gate[g].kind == FBP_GATE_EMBEDDING && plan->gate[g].trainable) sort_elements(plan, ws, g, rows);
}

/* The input from whose columns, from *column on, an embedding takes its categories; NULL if they are computed. */
static const struct gate *source(const struct fbp_plan *plan, const struct gate *gate, size_t *column)
{
    const struct gate *from = &plan->gate[gate->in[0].from];
    for (*column = 0; from->kind == FBP_GATE_SLICE && from->act == FBP_IDENTITY && !from->function; from = &plan->gate[from->in[0].from])
        *column += (size_t)from->setting[0];
    return from->kind == FBP_GATE_INPUT ? from : NULL;
}

static int check_categories(const struct fbp_plan *plan, const struct fbp_array *x, struct fbp_place *bad)
{
    for (int g = 0; g < plan->gates; g++) {
        const struct gate *gate = &plan->gate[g];
        size_t column;
        if (gate->kind != FBP_GATE_EMBEDDING) continue;
        const struct gate *from = source(plan, gate, &column);
        if (from == NULL) continue;
        struct fbp_array element = x[from->input];
        element.cols = 1;
        for (int64_t r = 0; r < element.rows; r++)
            for (size_t c = column; c < column + gate->width / gate->units; c++) {
                double value = 0;
                element.data = x[from->input].data + (ptrdiff_t)c * element.col_stride;
                fbp_array_convert(&element, r, FBP_F64, &value);
                if (plan->dtype == FBP_F32) value = (float)value;
                if (category_of(value, gate->weights) >= 0) continue;
                *bad = (struct fbp_place){.input = from->input, .row = r, .column = (int64_t)c, .most = (int64_t)gate->weights - 1};
                return FBP_BAD_INDEX;
            }
    }
    return FBP_OK;
}

/* In the mode of a pass, for which a number below the normal ones is 0. */
int fbp_plan_check_categories(const fbp_plan *plan, const struct fbp_array *x, struct fbp_place *bad)
{
    const fbp_float_mode mode = fbp_float_enter();
    const int status = check_categories(plan, x, bad);
    fbp_float_leave(mode);
    return status;
}
