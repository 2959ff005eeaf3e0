/* status.c: one sentence per status. */
#include "../fbp.h"

static const char *const text[FBP_STATUS_COUNT] = {
    [FBP_OK] = "ok",
    [FBP_PAUSED] = "paused between two steps",
    [FBP_NO_MEMORY] = "not enough memory",
    [FBP_TOO_LARGE] = "a size does not fit the address space",
    [FBP_NO_ISA] = "no kernels of that name for this CPU",
    [FBP_BAD_GRAPH] = "the graph names a gate, input, activation, loss or optimizer that does not exist",
    [FBP_BAD_LABEL] = "a class label is out of range",
    [FBP_BAD_TARGET] = "a target is not finite",
    [FBP_BAD_WEIGHT] = "a weight of a row is negative or not finite",
    [FBP_BAD_INDEX] = "an embedding was given a number that names no category",
    [FBP_STOPPED] = "a function of the caller's gave up",
    [FBP_NO_FORWARD] = "backward needs a forward pass before it",
};

const char *fbp_status_text(int status)
{
    return status >= 0 && status < FBP_STATUS_COUNT ? text[status] : "unknown status";
}
