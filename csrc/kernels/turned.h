/* turned.h: C = A B^T, the input gradient. Where there are few rows, as C^T = B A^T: what is transposed then is A and C, which are small, and B
 * is read as it lies. The chains are those of tile.h.
 */
#ifndef FBP_TURNED_H
#define FBP_TURNED_H

#include "gemm.h"

#define TURN_LEAST (MR * 3 / 4)         /* rows of a tile: 3 MR columns or more can be shared out so that no tile has fewer */
#define TURN_COLS (MR * 16)             /* at a time: a multiple of every register */
#define IN_L3 (8 << 20)                 /* bytes of B from which it is read no more than FAR_TIMES */
#define FAR_TIMES (16 / sizeof(real))

/* C^T (mr x nv registers) = start + A B. A has rows of W, which may lie in panels; B and C are on the stack, a panel wide. While the rows are in
 * one panel, what they have in the next is asked for, and the rows after them in this one, which are needed later, but may come from memory. */
INLINE void tile_turned(const int mr, const int nv, const struct tile *t)
{
    vec acc[MR][NV];
    const real *a[MR];
    const real *b = t->b;
    real *c = t->c;
    if (mr < TURN_LEAST) return;                                    /* never called */
    UNROLL for (int i = 0; i < mr; i++)
        UNROLL for (int j = 0; j < nv; j++) acc[i][j] = t->start ? vload(c + i * NR + j * VL) : vzero();
    UNROLL for (int i = 0; i < mr; i++) a[i] = t->a[i];
    const ptrdiff_t k = (ptrdiff_t)t->k, hop = t->panel == NR ? 0 : t->panel, lines = hop ? mr * (ptrdiff_t)sizeof(real) : 0;
    for (ptrdiff_t done = 0, from = 0, steps; done < k; done += steps, from += hop) {
        steps = hop && k - done > NR ? NR : k - done;
        const real *after = a[mr - 1] + from + NR, *next = k - done > NR ? a[0] + from + hop : a[mr - 1] + NR;
        TWICE for (ptrdiff_t p = from; p < from + steps; p++, b += NR) {
            const real *at[MR];
            vec bv[NV];
            UNROLL for (int j = 0; j < nv; j++) bv[j] = vload(b + j * VL);
            __builtin_prefetch((const char *)after + (p - from) * lines, 0, 2);
            __builtin_prefetch((const char *)next + (p - from) * lines, 0, 3);
            UNROLL for (int i = 0; i < mr; i++) at[i] = a[i] + p;
            tile_fma(mr, nv, acc, bv, at);
        }
    }
    UNROLL for (int i = 0; i < mr; i++)
        UNROLL for (int j = 0; j < nv; j++) vstore(c + i * NR + j * VL, acc[i][j]);
}

#define DEFINE_TURNED(mr)                                                                           \
    static AS_WRITTEN void tile_turned_##mr##_1(const struct tile *t) { tile_turned(mr, 1, t); }    \
    static AS_WRITTEN void tile_turned_##mr##_2(const struct tile *t) { tile_turned(mr, 2, t); }
#define TURNED_ENTRY(mr) [mr] = {tile_turned_##mr##_1, tile_turned_##mr##_2},
TILE_ROWS(DEFINE_TURNED)
static tile_fn *const turned_tiles[MR + 1][NV] = {TILE_ROWS(TURNED_ENTRY)};

/* Rows i .. i + m of columns j .. j + n of C, m and n <= VL, from their transpose: epilogue and stores. */
static __attribute__((noinline)) void turn_back(const struct fbp_gemm *g, struct tile *t, size_t i, size_t j, size_t m, size_t n, const vec *sums)
{
    t->last = n;
    if (m == VL) {
        tile_at(g, t, i, j, 1);
        narrow_finish(t, n, NV, sums);
    } else {                                                        /* in its place first, then by as many rows as there are */
        _Alignas(64) real rows[VL * VL];
        struct tile whole = *t;
        whole.c = rows, whole.ldc = VL, whole.epilogue = FBP_STORE, whole.second = FBP_NO_SECOND;
        narrow_finish(&whole, n, NV, sums);
        for (size_t x = 0, mr; x < m; x += mr) {
            mr = m - x < MR ? m - x : MR;
            tile_at(g, t, i + x, j, 1);
            t->start = rows + x * VL;
            rows_tiles[mr][0](t);
        }
    }
    if (g->after) g->after(g->context, i, j, m, n);
}

/* Rows i .. i + m of columns j .. j + n, m <= NR, n <= TURN_COLS. t has those rows of A, turned; b: rows of B. */
static void turned_columns(const struct fbp_gemm *g, const struct tile *t, size_t i, size_t m, size_t j, size_t n, const real *const *b)
{
    _Alignas(64) real sums[TURN_COLS * NR];
    const size_t nv = (m + VL - 1) / VL, count = (n + MR - 1) / MR, low = n / count, larger = n % count;
    struct tile one = *t, back = *t;
    if (g->start) {
        const void *start[NR];
        for (size_t x = 0; x < m; x++) start[x] = (const real *)g->start + (ptrdiff_t)(i + x) * g->ldstart;
        turn(start, (ptrdiff_t)j, m, n, sums, NR);
    }
    one.c = sums;
    for (size_t tile = 0, mr; tile < count; tile++, b += mr, one.c += mr * NR) {
        mr = low + (tile < larger);
        one.a = b;
        turned_tiles[mr][nv - 1](&one);
    }
    back.k = 0, back.ldstart = VL;
    for (size_t x = 0; x < n; x += VL)
        for (size_t q = 0; q < m; q += VL)
            turn_back(g, &back, i + q, j + x, m - q < VL ? m - q : VL, n - x < VL ? n - x : VL, (const vec *)(sums + x * NR + q));
}

/* Of so many columns that are left: all, or such that 3 MR are left. */
INLINE size_t turned_at_once(size_t left) { return left <= TURN_COLS ? left : left < TURN_COLS + 3 * MR ? TURN_COLS / 2 : TURN_COLS; }

static void turned_blocks(const struct fbp_gemm *g)
{
    _Alignas(64) real turned[KC * NR];
    const real *b[TURN_COLS];
    const size_t longest = g->k < KC ? g->k : KC, deep = (longest + VL - 1) / VL * VL, group = KC / deep * NR;
    for (size_t i = 0; i < g->m; i += group) {
        const size_t end = g->m - i < group ? g->m : i + group;
        for (size_t k0 = 0; k0 < g->k; k0 += KC) {
            const struct fbp_gemm part = block_of(g, k0, KC);
            const real *from = (const real *)g->b + (ptrdiff_t)(k0 / NR) * g->panel;
            struct tile t = tile_of(&part);
            for (size_t r = i; r < end; r += NR)
                turn(g->a + r, part.a0, end - r < NR ? end - r : NR, part.k, turned + (r - i) * deep, NR);
            for (size_t j = 0, n; j < g->n; j += n) {
                n = turned_at_once(g->n - j);
                for (size_t x = 0; x < n; x++) b[x] = from + (ptrdiff_t)(j + x) * g->ldb;
                for (size_t r = i; r < end; r += NR) {
                    t.b = turned + (r - i) * deep;
                    turned_columns(&part, &t, r, end - r < NR ? end - r : NR, j, n, b);
                }
            }
        }
    }
}

/* Whether that is less work: registers of rows nearly full, and A and C, which it reads and writes once more, well below B. B is read for every NR
 * rows, a real of it in half a cycle to a cycle, which memory cannot give for long. With registers of 16 bytes it is not measured, and left out. */
INLINE int turns(const struct fbp_gemm *g)
{
    const size_t empty = (VL - g->m % VL) % VL, far = g->n * g->k * sizeof(real) > IN_L3;
    if (VBYTES < 32 || empty > (g->m < VL ? 0 : VL / 4) || g->n < 3 * MR || (far && g->m > FAR_TIMES * NR)) return 0;
    return 2 * g->m * (g->n + g->k) <= g->n * g->k;
}

static void gemm_rows_transposed(const struct fbp_gemm *g)
{
    if (g->m == 0) return;
    if (turns(g)) turned_blocks(g);
    else blocks(g, 1);
}

#endif
