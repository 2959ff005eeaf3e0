/* gemm.h: the products of a dense gate, cut into tiles. */
#ifndef FBP_GEMM_H
#define FBP_GEMM_H

#include "kernels.h"
#include "narrow.h"
#include "pack.h"
#include "tile.h"

/* What all tiles of a product have in common. Every member is named, here as in the products of the plan: of what is left out, GCC makes
 * zeros by an instruction for strings, which takes as long as 35 cycles. */
INLINE struct tile tile_of(const struct fbp_gemm *g)
{
    return (struct tile){.a = NULL, .a0 = g->a0, .b = g->b, .ldb = g->ldb, .panel = g->panel, .k = g->k, .start = g->start,
                         .ldstart = g->ldstart, .c = g->c, .ldc = g->ldc, .o = g->o, .ldo = g->ldo, .second = g->second, .x = NULL,
                         .x0 = 0, .c2 = g->c2, .ldc2 = g->ldc2, .sums = NULL, .more = g->more, .far = 0, .ahead = NULL, .stride = 0,
                         .alpha = (real)g->alpha, .epilogue = g->epilogue, .last = VL};
}

/* Rows i .. of columns j .. of the product. */
INLINE void tile_at(const struct fbp_gemm *g, struct tile *t, size_t i, size_t j, const int rows_form)
{
    const real *const *rows = (const real *const *)g->a;
    t->a = rows_form ? rows + i : rows;
    t->a0 = rows_form ? g->a0 : g->a0 + (ptrdiff_t)i;
    t->start = g->start ? (const real *)g->start + (ptrdiff_t)i * g->ldstart + j : NULL;
    t->c = (real *)g->c + (ptrdiff_t)i * g->ldc + j;
    t->o = g->o ? (const real *)g->o + (ptrdiff_t)i * g->ldo + j : NULL;
    if (!rows_form || g->second == FBP_NO_SECOND) return;
    t->x = (const real *const *)g->x + i;
    t->x0 = (ptrdiff_t)j;
    t->c2 = (real *)g->c2 + (ptrdiff_t)i * g->ldc2 + j;
}

/* The same rows of the next panel. */
INLINE void next_panel(const struct fbp_gemm *g, struct tile *t, const int rows_form)
{
    t->b += g->panel;
    t->c += NR;
    if (t->start) t->start += NR;
    if (t->o) t->o += NR;
    if (!rows_form || g->second == FBP_NO_SECOND) return;
    t->x0 += NR;
    t->c2 += NR;
}

/* Columns j .. j + n, few of them, whose B starts at t->b, of the first m rows, a multiple of VL. Not inlined: with its arrays in
 * their frame, products of one row were 10 ns slower. */
static __attribute__((noinline)) void narrow_columns(const struct fbp_gemm *g, struct tile *t, size_t j, size_t n, size_t m,
                                                     const int rows_form)
{
    _Alignas(64) real block[NARROW_K * NARROW_PARTS * VL];
    const real *at[NARROW_K];
    vec sum[MR * NV];
    const size_t fit = MR * NV / n, most = VL * (fit < NARROW_PARTS ? fit : NARROW_PARTS);
    t->last = n;
    for (size_t i = 0, rows; i < m; i += rows) {
        rows = m - i < most ? m - i : most;
        const size_t parts = rows / VL;
        narrow_fn *fma = narrow_tiles[n][parts - 1];
        for (size_t q = 0; q < parts; q++) {
            tile_at(g, t, i + q * VL, j, rows_form);
            narrow_start(t, n, parts, sum + q);
        }
        if (rows_form) {
            const real *const *a = (const real *const *)g->a + i;
            for (size_t p = 0; p < g->k; p += NARROW_K) {
                const size_t k = g->k - p < NARROW_K ? g->k - p : NARROW_K;
                const real *row = block;
                for (size_t x = 0; x < k; x++, row += rows) at[x] = row;
                for (size_t q = 0; q < parts; q++) narrow_transpose(a + q * VL, g->a0 + (ptrdiff_t)p, k, block + q * VL, rows);
                fma(sum, at, 0, t->b + (ptrdiff_t)p * t->ldb, t->ldb, k);
            }
        } else {
            fma(sum, (const real *const *)g->a, g->a0 + (ptrdiff_t)i, t->b, t->ldb, g->k);
        }
        for (size_t q = 0; q < parts; q++) {
            tile_at(g, t, i + q * VL, j, rows_form);
            narrow_finish(t, n, parts, sum + q);
        }
        if (g->after) g->after(g->context, i, j, rows, n);
    }
}

/* The strip of W that is transposed next: `chunks` pieces of `bytes` each, `stride` bytes apart, too far for the hardware's prefetcher. */
struct ahead {
    const char *from;
    size_t chunks, bytes;
    ptrdiff_t stride;
};

/* Tile `number` of so many, all that the strip in work has, asks for its share of the next one: a piece of a chunk while it runs, a line
 * every few steps of k, which costs nothing. Chunks that are more than tiles are asked for at once: 7 cycles a line. */
INLINE void ask_ahead(const struct ahead *next, struct tile *t, size_t number, size_t tiles)
{
    const size_t pieces = tiles > next->chunks ? tiles / next->chunks : 1, bytes = next->bytes / pieces;
    const size_t each = tiles < next->chunks ? (next->chunks + tiles - 1) / tiles : 1, chunk = number * each / pieces;
    if (chunk >= next->chunks) return;
    t->ahead = next->from + (ptrdiff_t)chunk * next->stride + (ptrdiff_t)(number % pieces * bytes);
    t->stride = (ptrdiff_t)((bytes + t->k - 1) / t->k);
    for (size_t c = chunk + 1; c < chunk + each && c < next->chunks; c++)
        for (size_t at = 0; at < next->bytes; at += LINE) __builtin_prefetch(next->from + (ptrdiff_t)c * next->stride + at, 0, 2);
}

/* Makes the lines of mr rows of nv registers this core's own. A store to a line that another core has, too, takes as long as a message to it
 * and back, and those after it wait; a few, ahead of a tile's FMAs, are done before its own stores come. (A prefetch for writing does
 * nothing where the line is in L1.) What is there stays there. */
INLINE void take_lines(real *c, ptrdiff_t ldc, size_t mr, size_t nv)
{
    for (; mr > 0; mr--, c += ldc)
        for (size_t q = 0; q < nv; q++) {
            volatile real *line = c + q * VL;
            *line = *line;
        }
}

/* Columns j .. j + cols, of one panel or of several whole ones, whose B starts at t->b, from row i on, in balanced row tiles: 13 rows are
 * 5 + 4 + 4. All panels come under a row tile before the next one: its A stays in L1, and the lines of C are written one after the
 * other. The sums of the columns are one row more. One: a single panel. */
INLINE void panel_columns(const struct fbp_gemm *g, struct tile *t, size_t i, size_t j, size_t cols, const int rows_form,
                          const int one, const struct ahead *next)
{
    const size_t sums = !rows_form && g->sums, all = g->m - i + sums;
    const size_t count = (all + MR - 1) / MR, low = all / count, larger = all % count;
    const size_t n = cols < NR ? cols : NR, nv = (n + VL - 1) / VL, panels = (cols + NR - 1) / NR;
    const real *b = t->b;
    t->last = n - (nv - 1) * VL;
    for (size_t tile = 0; tile < count; tile++) {
        const size_t mr = low + (tile < larger);
        const int ones = sums && tile == count - 1;
        tile_at(g, t, i, j, rows_form);
        for (size_t q = 0;; next_panel(g, t, rows_form)) {
            if (next && next->chunks) ask_ahead(next, t, tile * panels + q / NR, count * panels);
            if (rows_form && g->next) {
                take_lines(t->c, t->ldc, mr, nv);
                take_lines((real *)g->next + (ptrdiff_t)i * g->ldnext + j + q, g->ldnext, mr, nv);
            }
            t->sums = ones ? (real *)g->sums + j + q : NULL;
            (rows_form ? rows_tiles : ones ? ones_tiles : cols_tiles)[mr][nv - 1](t);
            if (g->after) g->after(g->context, i, j + q, mr - (size_t)ones, n);
            if (one || (q += n) >= cols) break;
        }
        if (!one) t->b = b;
        i += mr;
    }
}

/* The same from the first row on, with the last columns apart where they would leave most of a register empty. */
INLINE void columns(const struct fbp_gemm *g, struct tile *t, size_t j, size_t cols, const int rows_form, const struct ahead *next)
{
    const size_t rest = cols % VL, full = cols - rest, whole = g->m - g->m % VL;
    if (rest > 0 && whole > 0 && (int)rest <= (!rows_form ? NARROW_COLS : full ? NARROW_REST : NARROW_ROWS)) {
        if (full > 0) panel_columns(g, t, 0, j, full, rows_form, 1, next);
        t->b += full;
        narrow_columns(g, t, j + full, rest, whole, rows_form);
        if (whole < g->m || (!rows_form && g->sums)) panel_columns(g, t, whole, j + full, rest, rows_form, 1, NULL);
    } else if (rows_form && cols > NR) {
        panel_columns(g, t, 0, j, cols, rows_form, 0, next);
    } else {
        panel_columns(g, t, 0, j, cols, rows_form, 1, next);
    }
}

/* Columns j .. of the product, panel by panel. */
INLINE void panels_from(const struct fbp_gemm *g, struct tile *t, size_t j, const int rows_form)
{
    for (; j < g->n; j += NR) {
        t->b = (const real *)g->b + (ptrdiff_t)(j / NR) * g->panel;
        columns(g, t, j, g->n - j < NR ? g->n - j : NR, rows_form, NULL);
    }
}

static void gemm_cols(const struct fbp_gemm *g)
{
    struct tile t = tile_of(g);
    if (g->m > 0 || g->sums) panels_from(g, &t, 0, 0);
}

/* ---- C = A B and C = A B^T by strips of KC x NR of B, a panel of KC steps of k or several of fewer, which stay in L2 under all rows of A,
 * as do KC columns of A and GROUP_BYTES of C. A chain goes on from C in the next block of k. B^T is transposed strip by strip, on the stack. - */

#define KC 1024
#define FEW_ROWS 16                     /* by which a B^T from beyond L2 is taken as it lies, panel by panel: nothing waits for memory then */
#define GROUP_BYTES (256 << 10)
#define IN_L1 (32 << 10)                /* bytes of B and of C up to which panels are taken one by one, */
#define STRIP_IN_L1 (128 << 10)         /* and where they are transposed: one of them then stays in L1 */
#define IN_L2 (512 << 10)               /* ... from which they are asked for early */

/* The columns of the strip that comes first of `left`: whole panels, or what is left of one. */
INLINE size_t strip_of(size_t left, size_t most)
{
    return left >= most ? most : left >= NR ? left / NR * NR : left;
}

static struct ahead strip_at(const struct fbp_gemm *g, size_t j, size_t cols, size_t k0, size_t kc)
{
    const size_t k = g->k - k0 < kc ? g->k - k0 : kc, size = sizeof(real);
    if (g->ldb != NR || g->n * g->k * size <= IN_L2) return (struct ahead){0};
    return (struct ahead){(const char *)g->b + ((ptrdiff_t)(k0 / NR) * g->panel + (ptrdiff_t)(j * NR)) * (ptrdiff_t)size,
                          (k + NR - 1) / NR, cols * NR * size, g->panel * (ptrdiff_t)size};
}

/* Steps k0 .. k0 + kc of it: but for the first ones on what is in C, and but for the last ones no end of their own. */
INLINE struct fbp_gemm block_of(const struct fbp_gemm *g, size_t k0, size_t kc)
{
    struct fbp_gemm part = *g;
    part.k = g->k - k0 < kc ? g->k - k0 : kc;
    part.a0 = g->a0 + (ptrdiff_t)k0;
    if (k0 > 0) part.start = g->c, part.ldstart = g->ldc;
    if (k0 + part.k < g->k) part.epilogue = FBP_STORE, part.second = FBP_NO_SECOND, part.after = NULL;
    return part;
}

INLINE void blocks(const struct fbp_gemm *g, const int transposed)
{
    _Alignas(64) real strip[transposed ? KC * NR : 1];
    const size_t bytes = (g->k > g->m ? g->k : g->m) * g->n * sizeof(real);     /* of B or C, the larger one */
    const int few = transposed && g->m <= FEW_ROWS && g->ldb == NR && bytes > IN_L2;
    const size_t longest = few ? NR : KC, parts = g->k > longest ? (g->k + longest - 1) / longest : 1;
    const size_t kc = parts > 1 ? (g->k + parts * NR - 1) / (parts * NR) * NR : g->k;
    const size_t rows = g->m * NR * sizeof(real), panels = rows < GROUP_BYTES ? GROUP_BYTES / rows : 1;
    const size_t group = kc < g->k ? panels * NR : g->n;
    for (size_t j0 = 0; j0 < g->n; j0 += group) {
        const size_t j1 = g->n - j0 < group ? g->n : j0 + group;
        for (size_t step = 0; step < parts; step++) {
            const size_t k0 = step * kc;
            struct fbp_gemm part = block_of(g, k0, kc);
            const size_t deep = part.k > VL ? (part.k + VL - 1) / VL * VL : VL;
            const size_t most = bytes > (transposed ? STRIP_IN_L1 : IN_L1) && !few ? KC / deep * NR : NR;
            if (transposed) part.ldb = NR, part.panel = (ptrdiff_t)(deep * NR);
            struct tile t = tile_of(&part);
            t.far = bytes > IN_L2;
            for (size_t j = j0, cols; j < j1; j += cols) {
                struct ahead next = {0};
                cols = strip_of(j1 - j, most);
                t.b = (const real *)g->b + (ptrdiff_t)(j / NR) * g->panel + (ptrdiff_t)k0 * g->ldb;
                if (transposed && !few) {
                    if (j + cols < j1) next = strip_at(g, j + cols, strip_of(j1 - j - cols, most), k0, kc);
                    else if (k0 + kc < g->k) next = strip_at(g, j0, strip_of(j1 - j0, most), k0 + kc, kc);
                    else if (j1 < g->n) next = strip_at(g, j1, strip_of(g->n - j1, most), 0, kc);
                }
                if (transposed) {
                    for (size_t q = 0; q < cols; q += NR)
                        transpose_panel((const real *)g->b, g->ldb, g->panel, j + q, cols - q < NR ? cols - q : NR, k0, part.k, strip + q * deep,
                                        bytes <= IN_L1 ? 0 : few ? NR * NR : g->panel);
                    t.b = strip;
                    t.ahead = (const char *)strip;
                }
                columns(&part, &t, j, cols, 1, &next);
            }
        }
    }
}

/* A few rows by several whole panels at a time. */
static size_t wide_panels(const struct fbp_gemm *g, struct tile *t)
{
    const size_t most = MR / g->m < WIDE_PANELS ? MR / g->m : WIDE_PANELS;
    size_t j = 0;
    t->last = VL;
    for (size_t panels = most; most > 1 && g->n - j >= 2 * NR; j += panels * NR) {
        if (panels > (g->n - j) / NR) panels = (g->n - j) / NR;
        t->b = (const real *)g->b + (ptrdiff_t)(j / NR) * g->panel;
        tile_at(g, t, 0, j, 1);
        wide_tiles[panels - 1][g->m](t);
        if (g->after) g->after(g->context, 0, j, g->m, panels * NR);
    }
    return j;
}

static void gemm_rows(const struct fbp_gemm *g)
{
    if (g->m == 0) return;
    if (g->m > MR) {
        blocks(g, 0);
        return;
    }
    struct tile t = tile_of(g);
    t.far = g->k * g->n * sizeof(real) > IN_L2;
    panels_from(g, &t, wide_panels(g, &t), 1);
}

#endif
