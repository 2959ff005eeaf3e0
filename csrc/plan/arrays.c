/* arrays.c: rows of the caller's arrays, converted one at a time: any strides, alignment, byte order, element type. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "plan.h"

/* IEEE 754 binary16 as a float: the fraction times 2^-24, or the same bits with another bias; infinities and NaN keep their exponent. */
static inline float half(uint16_t h)
{
    const uint32_t exponent = h >> 10 & 31, fraction = h & 1023, sign = (uint32_t)h >> 15 << 31;
    const float small = (float)(int32_t)fraction * 0x1p-24f;
    uint32_t of_small, bits = (exponent << 23 | fraction << 13) + (exponent == 31 ? 224u << 23 : 112u << 23);
    memcpy(&of_small, &small, sizeof bits);
    bits = (exponent == 0 ? of_small : bits) | sign;
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* A float as a double. One below the normal ones is a normal double; the conversion would flush it to zero. */
static inline double widen(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    const double small = (double)(int32_t)(bits & 0x7fffffu) * (bits >> 31 ? -0x1p-149 : 0x1p-149), normal = v;
    return bits & 0x7f800000u ? normal : small;
}

#define AS_IS(v) (v)
/* One row per element type: name in fbp.h, C type, conversion. */
#define TYPES(X)                                                                                          \
    X(FBP_TYPE_F32, float, widen) X(FBP_TYPE_F64, double, AS_IS) X(FBP_TYPE_F16, uint16_t, half)          \
    X(FBP_TYPE_I8, int8_t, AS_IS) X(FBP_TYPE_I16, int16_t, AS_IS) X(FBP_TYPE_I32, int32_t, AS_IS)         \
    X(FBP_TYPE_I64, int64_t, AS_IS) X(FBP_TYPE_U8, uint8_t, AS_IS) X(FBP_TYPE_U16, uint16_t, AS_IS)       \
    X(FBP_TYPE_U32, uint32_t, AS_IS) X(FBP_TYPE_U64, uint64_t, AS_IS)

static void swap_bytes(unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        const unsigned char b = p[i];
        p[i] = p[n - 1 - i];
        p[n - 1 - i] = b;
    }
}

static int same_type(const struct fbp_array *a, int dtype)
{
    return a->type == (dtype == FBP_F32 ? FBP_TYPE_F32 : FBP_TYPE_F64) && !a->swapped;
}

#define CONVERT_TO(real)                                                                   \
    switch (a->type) {                                                                     \
        TYPES(CASE_##real)                                                                 \
    }
/* A loop for what lies side by side, which compilers make of whole registers, and one for the rest. */
#define CONVERT_LOOP(code, type, convert, real)                                            \
    case code: {                                                                           \
        real *restrict result = to;                                                        \
        if (a->col_stride == (ptrdiff_t)sizeof(type) && !a->swapped) {                     \
            for (int64_t j = 0; j < n; j++) {                                              \
                type v;                                                                    \
                memcpy(&v, from + (size_t)j * sizeof v, sizeof v);                         \
                result[j] = (real)convert(v);                                              \
            }                                                                              \
            break;                                                                         \
        }                                                                                  \
        for (int64_t j = 0; j < n; j++, from += a->col_stride) {                           \
            type v;                                                                        \
            memcpy(&v, from, sizeof v);                                                    \
            if (a->swapped) swap_bytes((unsigned char *)&v, sizeof v);                     \
            result[j] = (real)convert(v);                                                  \
        }                                                                                  \
        break;                                                                             \
    }
#define CASE_float(code, type, convert) CONVERT_LOOP(code, type, convert, float)
#define CASE_double(code, type, convert) CONVERT_LOOP(code, type, convert, double)

/* A row of the plan's own type: a number below the normal ones stays what it is, wherever it lies. */
static void copy_bits(const struct fbp_array *a, const char *from, size_t size, char *to)
{
    const size_t n = (size_t)a->cols;
    if (a->col_stride == (ptrdiff_t)size) memcpy(to, from, n * size);
    else if (size == sizeof(float)) for (size_t j = 0; j < n; j++, from += a->col_stride) memcpy(to + j * sizeof(float), from, sizeof(float));
    else for (size_t j = 0; j < n; j++, from += a->col_stride) memcpy(to + j * sizeof(double), from, sizeof(double));
    for (size_t j = 0; a->swapped && j < n; j++) swap_bytes((unsigned char *)to + j * size, size);
}

void fbp_array_convert(const struct fbp_array *a, int64_t row, int dtype, void *to)
{
    const char *from = a->data + row * a->row_stride;
    const int64_t n = a->cols;
    const size_t size = dtype == FBP_F32 ? sizeof(float) : sizeof(double);
    if (a->type == (dtype == FBP_F32 ? FBP_TYPE_F32 : FBP_TYPE_F64)) {
        copy_bits(a, from, size, to);
    } else if (dtype == FBP_F32) {
        CONVERT_TO(float)
    } else {
        CONVERT_TO(double)
    }
}

int64_t fbp_array_label(const struct fbp_array *a, int64_t row)
{
    const char *from = a->data + row * a->row_stride;
    switch (a->type) {
#define CASE_LABEL(code, type, convert)                                                    \
    case code: {                                                                           \
        type v;                                                                            \
        memcpy(&v, from, sizeof v);                                                        \
        if (a->swapped) swap_bytes((unsigned char *)&v, sizeof v);                         \
        return (int64_t)convert(v);                                                        \
    }
        TYPES(CASE_LABEL)
    }
    return -1;
}

/* Rows can be used where they lie: right type and byte order, contiguous within a row, aligned. */
int fbp_array_in_place(const struct fbp_array *a, int dtype, size_t size)
{
    return same_type(a, dtype) && (a->col_stride == (ptrdiff_t)size || a->cols <= 1) && ((uintptr_t)a->data & (size - 1)) == 0 &&
           ((a->row_stride & (ptrdiff_t)(size - 1)) == 0 || a->rows <= 1);
}

int fbp_check_labels(const struct fbp_array *y, int64_t classes, int64_t *where, int64_t *value)
{
    for (int64_t i = 0; i < y->rows; i++) {
        const int64_t label = fbp_array_label(y, i);
        if (label < 0 || label >= classes) {
            *where = i;
            *value = label;
            return FBP_BAD_LABEL;
        }
    }
    return FBP_OK;
}

/* No number outside, and no NaN; without a branch in the loop, so that it is vectorized. */
static inline int floats_within(const float *v, size_t n, float least, float most)
{
    int bad = 0;
    for (size_t j = 0; j < n; j++) bad |= !(v[j] >= least) | !(v[j] <= most);
    return !bad;
}

static inline int doubles_within(const double *v, size_t n, double least, double most)
{
    int bad = 0;
    for (size_t j = 0; j < n; j++) bad |= !(v[j] >= least) | !(v[j] <= most);
    return !bad;
}

/* m rows of n: all finite and least .. most? */
int fbp_rows_within(const void *const *row, size_t m, int dtype, size_t n, double least, double most)
{
    const double largest = dtype == FBP_F32 ? FLT_MAX : DBL_MAX;
    int good = 1;
    if (!(least > -largest)) least = -largest;
    if (!(most < largest)) most = largest;
    for (size_t r = 0; r < m; r++)
        good &= dtype == FBP_F32 ? floats_within(row[r], n, (float)least, (float)most) : doubles_within(row[r], n, least, most);
    return good;
}

int fbp_check_within(const struct fbp_array *y, int dtype, double least, double most, int64_t *where)
{
    const size_t size = dtype == FBP_F32 ? sizeof(float) : sizeof(double);
    const int in_place = fbp_array_in_place(y, dtype, size);
    struct fbp_array element = *y;
    element.cols = 1;
    if (y->type > FBP_TYPE_F16 && isinf(least) && isinf(most)) return FBP_OK;
    for (int64_t i = 0; i < y->rows; i++) {
        const void *row = y->data + i * y->row_stride;
        int good = !in_place || fbp_rows_within(&row, 1, dtype, (size_t)y->cols, least, most);
        for (int64_t j = 0; !in_place && j < y->cols; j++) {
            double v = 0;
            const void *at = &v;
            element.data = (const char *)row + j * y->col_stride;
            fbp_array_convert(&element, 0, dtype, &v);
            good &= fbp_rows_within(&at, 1, dtype, 1, least, most);
        }
        if (!good) {
            *where = i;
            return FBP_BAD_TARGET;
        }
    }
    return FBP_OK;
}
