/* window.h: the test window. Any kernel of any ISA, called by name on plain arrays; nothing in the library uses it. */
#ifndef FBP_WINDOW_H
#define FBP_WINDOW_H

#include <stddef.h>

/* One product by the kernel of `isa`, operands row-major (forms 0..2) and copied to padded memory first:
 *   form 0, forward:         c (m, n) = start + a (m, k) b (k, n)      b in place or, with packed, in panels
 *   form 1, input gradient:  c (m, n) = start + a (m, k) b^T, b (n, k), b in place or in panels
 *   form 2, weight gradient: c (m, n) = start + a^T b, a (k, m), b (k, n)
 * epilogue is one of enum fbp_epilogue; o (m, n) and alpha as in struct fbp_gemm. start (m, n) may be NULL. Forms 0 and 1: second is
 * one of enum fbp_second, x (m, n) what it takes, c2 (m, n) where it goes, which may be c. */
int fbp_window_gemm(const char *isa, int dtype, int form, int packed, size_t m, size_t n, size_t k, const void *a, const void *b,
                    const void *start, void *c, int epilogue, double alpha, const void *o, int second, const void *x, void *c2);
/* Activation `act` with parameter a in place on z (m, n), or its backward: z = z f', taken from o; as often as `calls` says.
 * o is that of fbp_tile_fn: for the forward of rows that keep slopes where these go, or NULL; for others not used. */
int fbp_window_activation(const char *isa, int dtype, int act, int backward, double a, size_t m, size_t n, void *z, void *o,
                          size_t calls);
/* Whether activation `act` keeps slopes, and the usual value of its parameter. */
void fbp_window_row(int act, int *keeps, double *parameter);
/* out (n) = the sums of the columns of b (k, n). */
int fbp_window_col_sums(const char *isa, int dtype, size_t k, size_t n, const void *b, void *out);
/* Tile rows, panel columns and lanes of an ISA's kernels. */
int fbp_window_tile(const char *isa, int dtype, size_t tile[3]);

#endif
