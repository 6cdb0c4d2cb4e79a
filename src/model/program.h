/* Programs (shaders/program_lane.comp): the steps of a pass in few dispatches, for devices of the
 * lane form. A pass is recorded as ever, but what would be dispatched becomes an op. */
#ifndef VLY_MODEL_PROGRAM_H
#define VLY_MODEL_PROGRAM_H

#include "gpu/gpu.h"
#include "shaders/shared.h"

#include "shaders/program.h"

/* Of a pass at most: steps of more take longer than handing them over, and the kernel as long to
 * compile as all that it replaces. */
#define VLY_PROGRAM_TOKENS 4

typedef struct {
    struct vly_op *ops; /* where the device reads them, and there: */
    uint64_t ops_address, counters_address;
    uint32_t max_ops, lanes;
    uint32_t patience; /* looks at jobs that others do before a workgroup leaves */
    uint32_t n_ctx;    /* positions that a token can see */
    uint32_t n, first; /* ops; of the phase under way */
    uint32_t before;   /* of the phase before, or `first` */
    bool possible;     /* no op was too long, and there were not too many */
} vly_program;

/* A program over memory for `max_ops` ops, and VLY_OP_WORDS counters for each, which are 0 before
 * it runs. */
void vly_program_init(vly_program *out, struct vly_op *ops, uint64_t ops_address,
                      uint64_t counters_address, uint32_t max_ops, uint32_t lanes, uint32_t n_ctx,
                      uint32_t patience);

/* Adds a step of x times y jobs: what a kernel of its own does with as many workgroups. */
void vly_program_add_product(vly_program *program, uint32_t role, const struct vly_push_matvec *p,
                             uint32_t x, uint32_t y);
void vly_program_add_attention(vly_program *program, uint32_t kind,
                               const struct vly_push_attention *p, uint32_t head_dim, uint32_t x,
                               uint32_t y);

/* What is added next needs all that was added. */
void vly_program_barrier(vly_program *program);

/* Records the program: `kernel` is program_lane's, `views` what it reads, `step` the address of the
 * step buffer. */
void vly_program_record(const vly_program *program, const vly_gpu_kernel *kernel,
                        const vly_gpu_views *views, uint64_t step, vly_gpu_commands *commands);

#endif
