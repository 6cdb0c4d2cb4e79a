#include "model/program.h"

#include <string.h>
#include <unistd.h>

/* A driver may end every loop of a workgroup after so many turns of all its loops (Mesa's llvmpipe:
 * 65535), and a workgroup may have to do all jobs of a dispatch: a step of more turns is not for
 * programs. */
#define MOST_TURNS 40000u
/* Ops go into one dispatch while they are a matter of a few ms: where other programs take the
 * processors, workgroups leave, and come back with the next dispatch. */
#define DISPATCH_TURNS 9000u
#define MOST_GROUPS    64u

void vly_program_init(vly_program *out, struct vly_op *ops, uint64_t ops_address,
                      uint64_t counters_address, uint32_t max_ops, uint32_t lanes, uint32_t n_ctx,
                      uint32_t patience)
{
    *out = (vly_program){.ops = ops,
                         .ops_address = ops_address,
                         .counters_address = counters_address,
                         .max_ops = max_ops,
                         .lanes = lanes,
                         .n_ctx = n_ctx,
                         .patience = patience,
                         .possible = true};
}

static uint32_t turns_for(uint32_t n, uint32_t together)
{
    return (n + together - 1) / together + 1;
}

/* `job_turns`: of the loops of a job. */
static void add(vly_program *program, struct vly_op op, uint32_t job_turns)
{
    /* All loops of the other kinds take a turn, in which they do nothing. */
    uint64_t turns = (uint64_t)op.jobs_x * op.jobs_y * (job_turns + 1) + 32;
    program->possible = program->possible && turns <= MOST_TURNS && program->n < program->max_ops;
    if (!program->possible) return;
    op.first = program->first;
    op.before = program->before;
    op.turns = (uint32_t)turns;
    program->ops[program->n++] = op;
}

void vly_program_add_product(vly_program *program, uint32_t role, const struct vly_push_matvec *p,
                             uint32_t x, uint32_t y)
{
    uint32_t turns = p->blocks + 1 + turns_for(p->norm_parts, program->lanes);
    add(program,
        (struct vly_op){
            .kind = VLY_OP_PRODUCT, .role = role, .jobs_x = x, .jobs_y = y, .product = *p},
        turns);
}

void vly_program_add_attention(vly_program *program, uint32_t kind,
                               const struct vly_push_attention *p, uint32_t head_dim, uint32_t x,
                               uint32_t y)
{
    uint32_t seen = p->window && p->window < program->n_ctx ? p->window : program->n_ctx;
    uint32_t turns = kind == VLY_OP_STORE ? 8 * turns_for(head_dim / 4, program->lanes)
                                          : turns_for(seen, program->lanes) + 1;
    add(program, (struct vly_op){.kind = kind, .jobs_x = x, .jobs_y = y, .attention = *p}, turns);
}

void vly_program_barrier(vly_program *program)
{
    if (program->first == program->n) return;
    program->before = program->first;
    program->first = program->n;
}

static uint32_t n_groups(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > (long)MOST_GROUPS ? MOST_GROUPS : (uint32_t)n;
}

void vly_program_record(const vly_program *program, const vly_gpu_kernel *kernel,
                        const vly_gpu_views *views, uint64_t step, vly_gpu_commands *commands)
{
    struct vly_push_program push = {.ops = program->ops_address,
                                    .counters = program->counters_address,
                                    .step = step,
                                    .patience = program->patience};
    while (push.begin < program->n) {
        uint32_t turns = 0;
        for (push.end = push.begin; push.end < program->n; push.end++) {
            turns += program->ops[push.end].turns;
            if (turns > DISPATCH_TURNS && push.end > push.begin) break;
        }
        if (push.begin > 0) vly_gpu_cmd_barrier(commands);
        vly_gpu_cmd_dispatch(commands, kernel, views, &push, sizeof push, n_groups(), 1, 1);
        push.begin = push.end;
    }
}
