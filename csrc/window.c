#include "window.h"

#include <string.h>

#include "base/arena.h"
#include "base/cpu.h"
#include "fbp.h"
#include "kernels/kernels.h"

static const void *const *rows_of(struct fbp_arena *arena, const void *a, size_t rows, size_t cols, size_t size)
{
    const void **row = fbp_arena_cut(arena, rows, 1, sizeof *row);
    for (size_t i = 0; arena->base && i < rows; i++) row[i] = (const char *)a + i * cols * size;
    return row;
}

static void *copy_of(struct fbp_arena *arena, const void *from, size_t rows, size_t cols, size_t size)
{
    void *to = fbp_arena_cut(arena, rows, cols, size);
    return arena->base ? memcpy(to, from, rows * cols * size) : NULL;
}

int fbp_window_gemm(const char *isa, int dtype, int form, int packed, size_t m, size_t n, size_t k, const void *a, const void *b,
                    const void *start, void *c, int epilogue, double alpha, const void *o, int second, const void *x, void *c2)
{
    const struct fbp_kernels *kernels = fbp_kernels_find(isa, dtype);
    struct fbp_arena arena = {0};
    if (kernels == NULL) return FBP_NO_ISA;
    const size_t size = kernels->size, nr = kernels->nr;
    for (int measured = 0; measured < 2; measured++) {
        struct fbp_gemm g = {.m = m, .n = n, .k = k, .panel = (ptrdiff_t)nr, .ldstart = (ptrdiff_t)n,
                             .c = c, .ldc = (ptrdiff_t)n, .epilogue = epilogue, .alpha = alpha, .o = o, .ldo = (ptrdiff_t)n,
                             .second = second, .c2 = c2, .ldc2 = (ptrdiff_t)n};
        g.a = form == 2 ? rows_of(&arena, a, k, m, size) : rows_of(&arena, a, m, k, size);
        if (second) g.x = rows_of(&arena, x, m, n, size);
        if (start) g.start = copy_of(&arena, start, m, n, size);
        void *operand = copy_of(&arena, b, n, k, size);
        g.b = operand;
        const size_t rows = form == 1 ? n : k, cols = form == 1 ? k : n, panels = (cols + nr - 1) / nr;
        g.ldb = (ptrdiff_t)cols;
        if (packed) {
            void *panel = fbp_arena_cut(&arena, panels * nr, rows, size);
            g.b = panel;
            g.ldb = (ptrdiff_t)nr;
            g.panel = (ptrdiff_t)(nr * rows);
            if (measured) kernels->pack(operand, (ptrdiff_t)cols, rows, cols, panel, g.panel);
        }
        if (measured) {
            const fbp_float_mode mode = fbp_float_enter();
            (form == 0 ? kernels->gemm_rows : form == 1 ? kernels->gemm_rows_transposed : kernels->gemm_cols)(&g);
            fbp_float_leave(mode);
        } else {
            const int status = fbp_arena_open(&arena);
            if (status != FBP_OK) return status;
        }
    }
    fbp_arena_close(&arena);
    return FBP_OK;
}

int fbp_window_activation(const char *isa, int dtype, int act, int backward, double a, size_t m, size_t n, void *z, void *o,
                          size_t calls)
{
    const struct fbp_kernels *kernels = fbp_kernels_find(isa, dtype);
    if (kernels == NULL) return FBP_NO_ISA;
    const fbp_float_mode mode = fbp_float_enter();
    fbp_tile_fn *fn = backward ? kernels->act[act].backward : kernels->act[act].forward;
    const ptrdiff_t ld = (ptrdiff_t)n;
    for (size_t i = 0; fn && i < calls; i++)
        fn(&(struct fbp_tile){.m = m, .n = n, .x = z, .c = z, .o = o, .ldx = ld, .ldc = ld, .ldo = ld, .a = a});
    fbp_float_leave(mode);
    return FBP_OK;
}

void fbp_window_row(int act, int *keeps, double *parameter)
{
    const struct fbp_act_kernels *row = &fbp_kernels_find("base", FBP_F32)->act[act];
    *keeps = row->keeps, *parameter = row->parameter;
}

int fbp_window_col_sums(const char *isa, int dtype, size_t k, size_t n, const void *b, void *out)
{
    const struct fbp_kernels *kernels = fbp_kernels_find(isa, dtype);
    if (kernels == NULL) return FBP_NO_ISA;
    struct fbp_arena arena = {0};
    for (int measured = 0; measured < 2; measured++) {          /* sums come with a product: of one column of A */
        const void *const *a = rows_of(&arena, b, k, n, kernels->size);
        void *c = fbp_arena_cut(&arena, 1, n, kernels->size);
        void *operand = copy_of(&arena, b, k, n, kernels->size);
        if (measured)
            kernels->gemm_cols(&(struct fbp_gemm){.m = 1, .n = n, .k = k, .a = a, .b = operand, .ldb = (ptrdiff_t)n,
                                                  .panel = (ptrdiff_t)kernels->nr, .c = c, .ldc = (ptrdiff_t)n, .sums = out});
        else if (fbp_arena_open(&arena) != FBP_OK) return FBP_NO_MEMORY;
    }
    fbp_arena_close(&arena);
    return FBP_OK;
}

int fbp_window_tile(const char *isa, int dtype, size_t tile[3])
{
    const struct fbp_kernels *kernels = fbp_kernels_find(isa, dtype);
    if (kernels == NULL) return FBP_NO_ISA;
    tile[0] = kernels->mr, tile[1] = kernels->nr, tile[2] = kernels->lanes;
    return FBP_OK;
}
