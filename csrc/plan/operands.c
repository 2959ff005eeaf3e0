/* operands.c: see operands.h.
 *
 * Rows of dZ lie apart, so that a panel of them is in as many pages as it has rows. Of a large dZ, phase B would wait for their addresses
 * more than for the numbers, once for every unit; so phase A leaves a copy in which the panel of a unit is one piece.
 *
 * Tiles of gemm_cols take as many reals of a line of X as they have rows, and come back for the next. While a step of k takes as long as
 * the lines need from L2 that costs nothing; with shorter registers it does. There, `turn` of the kernels transposes the columns of X
 * that are the rows of a unit, for all of its panels.
 */
#include "operands.h"

#define PACKED_ROWS 1024                /* of a batch, most, that are laid out anew */
#define FAR_BYTES (1 << 20)             /* a smaller dZ stays in L2, and its pages in the TLB */
#define PACK_ROWS 16                    /* packed at a time, for few pages at once */

static size_t room(const struct workspace *ws) { return fbp_min(ws->rows, PACKED_ROWS); }

/* ---- dZ in panels ----------------------------------------------------------------------------------------------------------- */

static int packs(const struct fbp_plan *plan, const struct gate *gate, size_t rows)
{
    return gate->wp && rows <= PACKED_ROWS && rows * gate->ld * plan->kernels->size >= FAR_BYTES;
}

/* Row r, column j of the copy, j the first of a panel. */
static char *packed_at(const struct fbp_plan *plan, const struct workspace *ws, int g, size_t r, size_t j)
{
    return fbp_at(plan, ws->gate[g].packed, j * room(ws) + r * plan->kernels->nr);
}

/* Of rows r0 .. r1, once they are dZ. */
void fbp_pack_delta(const struct pass *p, int g, size_t r0, size_t r1)
{
    const struct gate *gate = &p->plan->gate[g];
    const struct fbp_kernels *k = p->plan->kernels;
    if (!gate->trainable || !packs(p->plan, gate, (size_t)p->rows)) return;
    for (size_t r = r0; r < r1; r += PACK_ROWS)
        k->pack(fbp_grad_at(p, g, r), (ptrdiff_t)gate->ld, fbp_min(r1 - r, PACK_ROWS), gate->units,
                packed_at(p->plan, p->ws, g, r, 0), (ptrdiff_t)(room(p->ws) * k->nr));
}

/* dZ of a unit from row r of the batch on, and the stride of its rows. */
const char *fbp_delta_panel(const struct fbp_plan *plan, const struct workspace *ws, size_t rows, const struct unit *u, size_t r,
                            ptrdiff_t *ld)
{
    const struct gate *gate = &plan->gate[u->gate];
    const int packed = packs(plan, gate, rows);
    *ld = (ptrdiff_t)(packed ? plan->kernels->nr : gate->ld);
    return packed ? packed_at(plan, ws, u->gate, r, u->j0) : fbp_at(plan, ws->gate[u->gate].grad, r * gate->ld + u->j0);
}

/* ---- X transposed, by each thread for itself --------------------------------------------------------------------------------- */

/* There are panels enough for that to pay. */
static int turns(const struct fbp_plan *plan, const struct gate *gate) { return gate->wp && fbp_long_rows(plan, gate); }

/* Rows, to row[i] + r; or NULL. */
const void *const *fbp_turned_rows(const struct fbp_plan *plan, const struct workspace *ws, size_t rows, const struct unit *u,
                                   struct turned *turned)
{
    const struct gate *gate = &plan->gate[u->gate];
    if (turned == NULL || !turns(plan, gate) || rows > PACKED_ROWS) return NULL;
    if (turned->gate != u->gate || turned->i0 != u->i0) {
        plan->kernels->turn(ws->gate[gate->in[0].from].out_row, (ptrdiff_t)u->i0, rows, u->i1 - u->i0, turned->at,
                            (ptrdiff_t)fbp_padded(room(ws), plan->kernels->size));
        turned->gate = u->gate, turned->i0 = u->i0;
    }
    return turned->row;
}

/* How many threads may need room for that, of a batch of so many rows. More may come when their number is set: they do without. */
int fbp_turning(const struct fbp_plan *plan, size_t rows)
{
    for (int g = 0; plan->kernels->turn && g < plan->gates; g++)
        if (turns(plan, &plan->gate[g])) return fbp_threads_for(plan, plan->operations * (double)rows);
    return 0;
}

/* ---- room for both; measures while the arena is not open ----------------------------------------------------------------------- */

void fbp_operands_layout(const struct fbp_plan *plan, struct workspace *ws)
{
    const size_t nr = plan->kernels->nr, size = plan->kernels->size, ld = fbp_padded(room(ws), size);
    for (int g = 0; g < plan->gates; g++) {
        const size_t columns = (plan->gate[g].units + nr - 1) / nr * nr;
        if (packs(plan, &plan->gate[g], room(ws))) ws->gate[g].packed = fbp_arena_cut(&ws->arena, room(ws), columns, size);
    }
    ws->turned = fbp_arena_cut(&ws->arena, (size_t)ws->turning, 1, sizeof *ws->turned);
    for (int i = 0; i < ws->turning; i++) {
        char *at = fbp_arena_cut(&ws->arena, FBP_UNIT_ROWS, ld, size);
        if (ws->turned == NULL) continue;
        ws->turned[i].at = at;
        for (size_t r = 0; r < FBP_UNIT_ROWS; r++) ws->turned[i].row[r] = at + r * ld * size;
    }
}
