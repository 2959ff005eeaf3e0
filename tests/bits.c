/* bits.c: trains small networks with every ISA of the CPU it runs on and prints a hash of the parameters, so that compilers and
 * architectures can be compared without Python: `make bits`. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fbp.h"

enum { ROWS = 31, INPUTS = 37, OUTPUTS = 7, STEPS = 20 };

/* FNV-1a */
static uint64_t hash(const unsigned char *p, size_t n)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 1099511628211u;
    return h;
}

static uint64_t state;
/* xorshift64, as a double in [-1, 1) */
static double number(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (double)(state >> 11) / 4503599627370496.0 - 1;
}

static void fill(void *to, size_t n, int dtype, double scale)
{
    for (size_t i = 0; i < n; i++) {
        const double v = scale * number();
        if (dtype == FBP_F32) ((float *)to)[i] = (float)v;
        else ((double *)to)[i] = v;
    }
}

static int activation(const char *name)
{
    int i = 0;
    while (strcmp(fbp_activation_name(i), name) != 0) i++;
    return i;
}

static int train(const char *isa, int dtype, int loss, int optimizer, int clip)
{
    static const int in[][2] = {{0}, {0}, {1}, {2}, {3}, {4}, {5}, {4, 6}, {7}, {8}, {9}};
    const int relu = activation("relu"), tanh = activation("tanh"), sigmoid = activation("sigmoid"), gelu = activation("gelu");
    const struct {
        int gate, ins, width, activation;
        double setting[FBP_SETTINGS];
    } gates[] = {                       /* all that is computed in another way: products, of a W in panels and of one larger than the batch, norms, ... */
        {FBP_GATE_INPUT, 0, INPUTS, 0, {0}},    {FBP_GATE_DENSE, 1, 141, relu, {1}},
        {FBP_GATE_BATCH_NORM, 1, 0, 0, {1e-5, 0.1}}, {FBP_GATE_DENSE, 1, 133, relu, {1}},
        {FBP_GATE_DENSE, 1, 53, tanh, {1}},     {FBP_GATE_DENSE, 1, 33, sigmoid, {1}},  {FBP_GATE_DENSE, 1, 53, sigmoid, {1}},
        {FBP_GATE_ADD, 2, 0, 0, {0}},           {FBP_GATE_LAYER_NORM, 1, 0, gelu, {1e-5}},
        {FBP_GATE_DROPOUT, 1, 0, 0, {0.25}},    {FBP_GATE_DENSE, 1, OUTPUTS, 0, {1}}};
    enum { NODES = sizeof gates / sizeof gates[0] };
    struct fbp_node node[NODES];
    for (int i = 0; i < NODES; i++) {
        node[i] = (struct fbp_node){.gate = gates[i].gate, .in = in[i], .ins = gates[i].ins, .width = gates[i].width,
                                    .activation = gates[i].activation, .parameter = NAN, .trainable = 1};
        memcpy(node[i].setting, gates[i].setting, sizeof node[i].setting);
    }
    const struct fbp_output output = {.node = NODES - 1, .loss = loss, .parameter = NAN, .weight = 1};
    const struct fbp_graph graph = {node, NODES, &output, 1, dtype, optimizer, 7};
    const double hyper[FBP_HYPER] = {[FBP_RATE] = 0.01, [FBP_BETA1] = 0.9, [FBP_BETA2] = 0.99, [FBP_EPS] = 1e-8,
                                     [FBP_L2] = clip ? 1e-3 : 0, [FBP_CLIP_NORM] = clip ? 0.1 : 0};
    const size_t size = dtype == FBP_F32 ? sizeof(float) : sizeof(double);
    static double x[ROWS * INPUTS], y[ROWS * OUTPUTS];
    int64_t label[ROWS];
    fbp_plan *plan;
    int status = fbp_plan_create(&graph, isa, &plan);
    if (status != FBP_OK) return status;
    fbp_plan_set_hyper(plan, hyper);
    state = 88172645463325252u;
    fbp_plan_export(plan, 1);
    fill(fbp_plan_params(plan), (size_t)fbp_plan_parameters(plan), dtype, 0.2);
    fbp_plan_export(plan, -1);
    fill(x, ROWS * INPUTS, dtype, 1);
    fill(y, ROWS * OUTPUTS, FBP_F64, 1);
    for (int i = 0; i < ROWS; i++) label[i] = i % OUTPUTS;
    const struct fbp_array xs = {(char *)x, ROWS, INPUTS, (ptrdiff_t)(INPUTS * size), (ptrdiff_t)size,
                                 dtype == FBP_F32 ? FBP_TYPE_F32 : FBP_TYPE_F64, 0};
    const struct fbp_targets values = {{(char *)y, ROWS, OUTPUTS, OUTPUTS * sizeof(double), sizeof(double), FBP_TYPE_F64, 0}, 0};
    const struct fbp_targets labels = {{(char *)label, ROWS, 1, sizeof(int64_t), sizeof(int64_t), FBP_TYPE_I64, 0}, 1};
    struct fbp_run run;
    for (int step = 0; step < STEPS && status == FBP_OK; step++) {
        run = (struct fbp_run){.end = ROWS, .batch = ROWS};
        do status = fbp_train(plan, &xs, loss ? &labels : &values, &run);
        while (status == FBP_PAUSED);
    }
    fbp_plan_export(plan, 1);
    if (status == FBP_OK)
        printf("%s %s %s+%s%s %016" PRIx64 " %.17g\n", isa, dtype == FBP_F32 ? "float32" : "float64", fbp_loss_name(loss),
               fbp_optimizer_name(optimizer), clip ? "+clip" : "",
               hash(fbp_plan_params(plan), (size_t)fbp_plan_parameters(plan) * size), run.loss);
    fbp_plan_export(plan, -1);
    fbp_plan_destroy(plan);
    return status;
}

/* A loss alone, of weighted rows. */
static int lone_loss(const char *isa, int dtype, int loss)
{
    enum { COLUMNS = 38 };
    static double out[ROWS * COLUMNS], grad[ROWS * COLUMNS], y[ROWS * COLUMNS], weight[ROWS];
    int64_t label[ROWS];
    const int takes_labels = fbp_loss_takes_labels(loss);
    const int64_t width = takes_labels ? 1 : fbp_loss_target_width(loss, COLUMNS);
    const struct fbp_array ys = {takes_labels ? (char *)label : (char *)y, ROWS, width, width * 8, 8,
                                 takes_labels ? FBP_TYPE_I64 : FBP_TYPE_F64, 0};
    double value;
    state = 88172645463325252u;
    fill(out, ROWS * COLUMNS, dtype, 3);
    fill(y, ROWS * COLUMNS, FBP_F64, 1);
    for (int i = 0; i < ROWS; i++) label[i] = i % COLUMNS, weight[i] = i % 5;
    setenv("FASTBP_ISA", isa, 1);
    const int status = fbp_loss_gradient(loss, dtype, out, COLUMNS, &ys, takes_labels, weight, 0.25, &value, grad);
    printf("%s %s %s %016" PRIx64 " %.17g\n", isa, dtype == FBP_F32 ? "float32" : "float64", fbp_loss_name(loss),
           hash((const unsigned char *)grad, sizeof out / (dtype == FBP_F32 ? 2 : 1)) ^ hash((unsigned char *)&value, 8), value);
    return status;
}

int main(void)
{
    for (int i = 0; fbp_isa_name(i); i++)
        for (int dtype = FBP_F32; dtype <= FBP_F64; dtype++)
            for (int loss = 0; fbp_loss_name(loss); loss++)
                if (lone_loss(fbp_isa_name(i), dtype, loss) != FBP_OK) return 1;
    for (int i = 0; fbp_isa_name(i); i++)
        for (int dtype = FBP_F32; dtype <= FBP_F64; dtype++)
            for (int loss = 0; loss < 2; loss++)
                for (int optimizer = 0; fbp_optimizer_name(optimizer); optimizer++)
                    for (int clip = 0; clip < 2; clip++)
                        if (train(fbp_isa_name(i), dtype, loss, optimizer, clip) != FBP_OK) return 1;
    return 0;
}
