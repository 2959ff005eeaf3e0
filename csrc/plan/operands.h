/* operands.h: what phase B reads, laid out once more for it where that takes less time than it saves: dZ in panels, and the columns of X
 * that are the rows of a unit, as rows. The same numbers in the same order, so the same bits. */
#ifndef FBP_OPERANDS_H
#define FBP_OPERANDS_H

#include "plan.h"

/* Columns of X as rows: those of the unit that a thread is at. */
struct turned {
    int gate;                       /* whose they are; 0: none */
    size_t i0;                      /* ... from there on */
    char *at;
    const void *row[FBP_UNIT_ROWS];
};

int fbp_turning(const struct fbp_plan *plan, size_t rows);
void fbp_operands_layout(const struct fbp_plan *plan, struct workspace *ws);
void fbp_pack_delta(const struct pass *p, int g, size_t r0, size_t r1);
const char *fbp_delta_panel(const struct fbp_plan *plan, const struct workspace *ws, size_t rows, const struct unit *u, size_t r,
                            ptrdiff_t *ld);
const void *const *fbp_turned_rows(const struct fbp_plan *plan, const struct workspace *ws, size_t rows, const struct unit *u,
                                   struct turned *turned);

#endif
