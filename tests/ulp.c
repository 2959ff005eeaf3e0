/* ulp.c: the largest error of the smooth activations, in units of the last place (ULP) of the correctly rounded result: over all
 * 2^32 float32 and 2^21 float64, for every ISA of the CPU it runs on. `make ulp`; fails above the bound.
 *
 * The oracle of float32 is the C library in double, whose few ULP are 2^-26 of a float32's; that of float64 the C library in
 * long double, where that has 11 more bits or better: a few 2^-11 of a float64's.
 * The library flushes denormals: an input counts as the zero it is flushed to, and 0 is right for a result that rounds to less
 * than the smallest normal number. NaN must give NaN, and what rounds to infinity infinity.
 *
 * usage: ulp [function] [float32 | float64] */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cpu.h"
#include "fbp.h"
#include "kernels/kernels.h"

#if LDBL_MANT_DIG < 64
#error "the oracle of float64 needs a long double that is longer"
#endif

#define PI 3.14159265358979323846264338327950288L
#define SCALE 1.0507009873554804934193349852946L
#define ALPHA 1.6732632423543772848170429916717L
#define ALL {INFINITY, INFINITY}

enum { CHUNK = 1 << 14, MAX_ISAS = 8, MAX_THREADS = 64, SAMPLE_BITS = 21 };

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double softplus(double x) { return (x > 0 ? x : 0) + log1p(exp(x > 0 ? -x : x)); }
static long double sigmoidl(long double x) { return 1 / (1 + expl(-x)); }
static long double softplusl(long double x) { return (x > 0 ? x : 0) + log1pl(expl(x > 0 ? -x : x)); }
static double elu(double x) { return x > 0 ? x : expm1(x); }
static long double elul(long double x) { return x > 0 ? x : expm1l(x); }
static double selu(double x) { return SCALE * (x > 0 ? x : ALPHA * expm1(x)); }
static long double selul(long double x) { return SCALE * (x > 0 ? x : ALPHA * expm1l(x)); }
static double softsign(double x) { return isinf(x) ? copysign(1, x) : x / (1 + fabs(x)); }
static long double softsignl(long double x) { return isinf(x) ? copysignl(1, x) : x / (1 + fabsl(x)); }
/* Those that are z times something which vanishes: 0 at -infinity. */
static double silu(double x) { return x == -INFINITY ? 0 : x / (1 + exp(-x)); }
static long double silul(long double x) { return x == -INFINITY ? 0 : x / (1 + expl(-x)); }
static double mish(double x) { return x == -INFINITY ? 0 : x * tanh(log1p(exp(x))); }
static long double mishl(long double x) { return x == -INFINITY ? 0 : x * tanhl(log1pl(expl(x))); }
static long double cubicl(long double x) { return 2 * sqrtl(2 / PI) * (x + 0.044715L * x * x * x); }
static double gelu_tanh(double x) { return x == -INFINITY ? 0 : x / (1 + exp(-(double)cubicl(x))); }
static long double gelu_tanhl(long double x) { return x == -INFINITY ? 0 : x / (1 + expl(-cubicl(x))); }
static double gelu(double x) { return x == -INFINITY ? 0 : x / 2 * erfc(-x / sqrt(2)); }
/* erfc at a + d = -x / sqrt 2, of which a is rounded: its derivative is -2 / sqrt(pi) e^(-a^2) */
static long double gelul(long double x)
{
    const long double root = sqrtl(2), root_rest = fmal(-root, root, 2) / (2 * root), a = -x / root;
    const long double d = -(fmal(a, root, x) + a * root_rest) / root;
    return isinf(x) || isnan(x) ? gelu((double)x) : x / 2 * (erfcl(a) - 2 / sqrtl(PI) * expl(-a * a) * d);
}
/* What an error of gelu_tanh is measured by beside the ULP: the rounding of y, of which e^y is taken, enters y times. */
static double one(double x) { return 1; }
static double beside_y(double x) { return x < 0 ? 1 + fabs((double)cubicl(x)) : 1; }

static const struct function {
    const char *name;
    double bound, base;         /* MAX_ULP of tests/bounds.py, with FMA and without */
    double (*exact)(double);
    long double (*exactl)(long double);
    double (*by)(double);
    int parts;                  /* a difference of two parts, one of which is flushed for the smallest x, unless by an FMA */
    double most[2];             /* |x| at most, in float32 and float64 */
} FUNCTIONS[] = {
    {"exp", 1, 1.25, exp, expl, one, 0, ALL},
    {"log", 2, 2, log, logl, one, 0, ALL},
    {"sigmoid", 2, 2, sigmoid, sigmoidl, one, 0, ALL},
    {"softplus", 2, 2.25, softplus, softplusl, one, 0, ALL},
    {"tanh", 2, 2.25, tanh, tanhl, one, 0, ALL},
    {"elu", 2, 2, elu, elul, one, 0, ALL},
    {"selu", 2, 2, selu, selul, one, 0, {0x1p127, 0x1p1023}},      /* above, it overflows */
    {"softsign", 2, 2, softsign, softsignl, one, 0, ALL},
    {"gelu", 5, 5, gelu, gelul, one, 1, ALL},
    {"gelu_tanh", 3, 3, gelu_tanh, gelu_tanhl, beside_y, 1, ALL},
    {"silu", 3, 3, silu, silul, one, 1, ALL},
    {"mish", 5.25, 5.25, mish, mishl, one, 1, ALL},
    {"sin", 2, 2.25, sin, sinl, one, 0, {0x1p20, 0x1p30}},
};

static fbp_tile_fn *find(const struct function *f, const struct fbp_kernels *k)
{
    for (int i = 0; i < FBP_ACT_COUNT; i++)
        if (strcmp(f->name, k->act[i].name) == 0) return k->act[i].forward;
    return NULL;
}

/* The worst input of a function. */
struct worst {
    double error, x, y;
};

static void worse(struct worst *w, struct worst other)
{
    if (other.error > w->error) *w = other;
}

/* |y - exact| in ULP of `rounded`, which is `exact` in a format of so many mantissa bits whose smallest normal number is `tiny`. */
static double ulp_error(double y, long double exact, double rounded, int mantissa, double tiny)
{
    if (isnan(exact) || isnan(y)) return isnan(exact) && isnan(y) ? 0 : INFINITY;
    if (isinf(rounded)) return y == rounded ? 0 : INFINITY;
    if (y == 0 && fabsl(exact) < tiny) return 0;
    return (double)fabsl(scalbnl(y - exact, mantissa - 1 - ilogb(fabs(rounded) < tiny ? tiny : rounded)));
}

/* The same for float32, where the exponents are those of normal numbers: 2^32 times per function. */
static inline double ulp_error_f32(float y, double exact)
{
    const float rounded = (float)exact;
    uint32_t bits;
    memcpy(&bits, &rounded, sizeof bits);
    const uint32_t exponent = bits >> 23 & 0xff;
    if (exponent <= 1 || exponent == 0xff || y != y) return ulp_error(y, exact, rounded, FLT_MANT_DIG, FLT_MIN);
    const uint64_t power = (uint64_t)(1023 + 127 + FLT_MANT_DIG - 1 - exponent) << 52;      /* 1 / ULP */
    double per_ulp;
    memcpy(&per_ulp, &power, sizeof power);
    return fabs(y - exact) * per_ulp;
}

static void run(fbp_tile_fn *fn, void *y, const void *x, size_t size)
{
    memcpy(y, x, CHUNK * size);
    const fbp_float_mode mode = fbp_float_enter();
    fn(&(struct fbp_tile){.m = 1, .n = CHUNK, .x = y, .c = y, .ldx = CHUNK, .ldc = CHUNK, .a = 1});
    fbp_float_leave(mode);
}

/* The work of all threads. */
struct job {
    const struct function *f;
    int dtype, isas;
    uint64_t end;
    _Atomic uint64_t next;
    fbp_tile_fn *fn[MAX_ISAS];
    double least[MAX_ISAS];         /* |x| that is measured, other than 0 */
    pthread_mutex_t lock;
    struct worst worst[MAX_ISAS];
};

static int measured(const struct job *job, int isa, double x)
{
    return !(fabs(x) > job->f->most[job->dtype]) && (x == 0 || !(fabs(x) < job->least[isa]));
}

/* CHUNK float32 from the one whose bits are `first`. */
static void chunk_f32(const struct job *job, uint32_t first, struct worst *worst)
{
    float x[CHUNK], y[2][CHUNK];
    double exact[CHUNK];
    struct worst of_first = {0, 0, 0};
    for (uint32_t i = 0; i < CHUNK; i++) {
        const uint32_t bits = first + i;
        memcpy(&x[i], &bits, sizeof bits);
        exact[i] = job->f->exact(fabsf(x[i]) < FLT_MIN ? copysignf(0, x[i]) : x[i]);
    }
    for (int isa = 0; isa < job->isas; isa++) {
        struct worst w = {0, 0, 0};
        run(job->fn[isa], y[isa > 0], x, sizeof(float));
        if (isa > 0 && memcmp(y[0], y[1], sizeof y[0]) == 0) w = of_first;        /* most ISAs agree on every bit */
        else
            for (int i = 0; i < CHUNK; i++) {
                if (!measured(job, isa, x[i])) continue;
                worse(&w, (struct worst){ulp_error_f32(y[isa > 0][i], exact[i]) / job->f->by(x[i]), x[i], y[isa > 0][i]});
            }
        if (isa == 0) of_first = w;
        worse(&worst[isa], w);
    }
}

/* CHUNK float64, number `first` and up of the sample: each sign and exponent, one half with a random mantissa of their own; in the
 * other half only exponents around 0, where the functions bend. */
static void chunk_f64(const struct job *job, uint32_t first, struct worst *worst)
{
    double x[CHUNK], y[CHUNK];
    for (uint32_t i = 0; i < CHUNK; i++) {
        uint64_t random = (first + i + 1) * 0x9e3779b97f4a7c15u;       /* splitmix64 */
        random = (random ^ random >> 30) * 0xbf58476d1ce4e5b9u;
        random = (random ^ random >> 27) * 0x94d049bb133111ebu;
        random ^= random >> 31;
        const uint64_t exponent = i % 2 ? (first + i) / 2 % 2048 : 1023 - 30 + (first + i) / 2 % 41;
        const uint64_t bits = (random & 0x800fffffffffffffu) | exponent << 52;
        memcpy(&x[i], &bits, sizeof bits);
    }
    for (int isa = 0; isa < job->isas; isa++) {
        run(job->fn[isa], y, x, sizeof(double));
        for (int i = 0; i < CHUNK; i++) {
            if (!measured(job, isa, x[i])) continue;
            const long double exact = job->f->exactl(fabs(x[i]) < DBL_MIN ? copysign(0, x[i]) : x[i]);
            const double error = ulp_error(y[i], exact, (double)exact, DBL_MANT_DIG, DBL_MIN) / job->f->by(x[i]);
            worse(&worst[isa], (struct worst){error, x[i], y[i]});
        }
    }
}

static void *work(void *argument)
{
    struct job *job = argument;
    struct worst worst[MAX_ISAS] = {{0, 0, 0}};
    for (uint64_t first; (first = atomic_fetch_add(&job->next, CHUNK)) < job->end;)
        (job->dtype == FBP_F32 ? chunk_f32 : chunk_f64)(job, (uint32_t)first, worst);
    pthread_mutex_lock(&job->lock);
    for (int isa = 0; isa < job->isas; isa++) worse(&job->worst[isa], worst[isa]);
    pthread_mutex_unlock(&job->lock);
    return NULL;
}

/* All inputs of a function in one dtype; true if every ISA is within its bound. */
static int check(const struct function *f, int dtype, int threads)
{
    struct job job = {.f = f, .dtype = dtype, .end = dtype == FBP_F32 ? (uint64_t)1 << 32 : (uint64_t)1 << SAMPLE_BITS,
                      .lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t thread[MAX_THREADS];
    int good = 1, started = 0;
    for (; fbp_isa_name(job.isas); job.isas++) {
        job.fn[job.isas] = find(f, fbp_kernels_find(fbp_isa_name(job.isas), dtype));
        if (f->parts && strcmp(fbp_isa_name(job.isas), "base") == 0) job.least[job.isas] = 4 * (dtype == FBP_F32 ? FLT_MIN : DBL_MIN);
    }
    while (started < threads && pthread_create(&thread[started], NULL, work, &job) == 0) started++;
    work(&job);
    for (int i = 0; i < started; i++) pthread_join(thread[i], NULL);
    for (int isa = 0; isa < job.isas; isa++) {
        const struct worst *w = &job.worst[isa];
        const double bound = strcmp(fbp_isa_name(isa), "base") == 0 ? f->base : f->bound;
        const int within = w->error <= bound;
        printf("%-9s %-7s %-6s %.4f ULP at %a (%.9g), where it gives %a%s\n", f->name, dtype == FBP_F32 ? "float32" : "float64",
               fbp_isa_name(isa), w->error, w->x, w->x, w->y, within ? "" : ": above the bound");
        good &= within;
    }
    fflush(stdout);
    return good;
}

int main(int argc, char **argv)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const int threads = cores < 2 ? 0 : cores > MAX_THREADS ? MAX_THREADS : (int)cores - 1;
    int good = 1;
    for (size_t i = 0; i < sizeof FUNCTIONS / sizeof FUNCTIONS[0]; i++)
        for (int dtype = FBP_F32; dtype <= FBP_F64; dtype++) {
            if (argc > 1 && strcmp(argv[1], FUNCTIONS[i].name) != 0) continue;
            if (argc > 2 && strcmp(argv[2], dtype == FBP_F32 ? "float32" : "float64") != 0) continue;
            good &= check(&FUNCTIONS[i], dtype, threads);
        }
    return !good;
}
