// The steps of a pass in one dispatch, for devices whose lanes are a processor's vector: handing a dispatch to the
// driver's threads and waiting for them takes longer there than most steps. One workgroup for each thread, of one
// subgroup. Workgroups take the jobs of a step one by one, and wait for those that others have taken before they
// begin a step that needs them.
//
// No workgroup ever needs another to run: one that waits holds no job, so it may leave when it has lost patience,
// and who is left does the rest; one that begins late finds all jobs taken. So nothing rests on how many threads
// there are, or on when they run, and there are always an end and the same bits.
//
// What other workgroups wrote is read by texel fetches, which promise no coherence: memory of processors is, and
// fetches depend on the operands of an op, read behind the wait for what it needs.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_buffer_reference : require
layout(buffer_reference) readonly buffer RefOps;
#include "common.glsl"
#include "program.h"
layout(buffer_reference, scalar, buffer_reference_align = 4) readonly buffer RefOps { vly_op at[]; };

layout(push_constant, scalar) uniform Range { vly_push_program run; };

uint role;
vly_push_matvec p;
vly_push_attention attention;

// The files of the two kernels take their operands from push constants called p; here these are variables.
#define LANE_ROLE   role
#define LANE_LOGITS false
#define MATVEC_OPERANDS
#include "matvec_lane.glsl"
#undef LANES
#define KV_OPERANDS
#define KV_CONSTANTS VLY_PROGRAM_ATTENTION
#define p            attention
#include "attention_lane.glsl"
#undef p

#define LOOKS 4 // between two tests of a wait

uint patience;

// The next job of op i, less than n if there is one.
uint take(uint i, uint n)
{
    uint job = n;
    if (n != 0u && gl_SubgroupInvocationID == 0u)
        job = atomicAdd(run.counters.at[i * VLY_OP_WORDS + VLY_OP_TAKEN], 1u);
    return subgroupShuffle(job, 0u);
}

// Says that this workgroup has done n jobs of op i.
void tell(uint i, uint n)
{
    memoryBarrierBuffer();
    if (n != 0u && gl_SubgroupInvocationID == 0u)
        atomicAdd(run.counters.at[i * VLY_OP_WORDS + VLY_OP_DONE], n);
}

uint look(uint i)
{
    return subgroupShuffle(atomicAdd(run.counters.at[i * VLY_OP_WORDS + VLY_OP_DONE], 0u), 0u);
}

// Waits until n jobs of op i are done; false where patience has been lost. All lanes look, and several times, which
// takes a while: a turn of a loop costs some drivers one of few that they grant a workgroup.
bool await(uint i, uint n)
{
    uint done = look(i);
    while (done < n && patience > 0u) {
        [[unroll]] for (uint k = 0; k < LOOKS; k++) done = look(i);
        patience--;
    }
    memoryBarrierBuffer();
    return done >= n;
}

// The jobs of op i, if it is of this kind.
#define DO_JOBS(op_kind, do_job)                                                 \
    {                                                                            \
        uint n = op.kind == op_kind ? op.jobs_x * op.jobs_y : 0u, n_done = 0u;   \
        for (uint job = take(i, n); job < n; job = take(i, n)) {                 \
            uint x = job % op.jobs_x, y = job / op.jobs_x;                       \
            do_job;                                                              \
            n_done++;                                                            \
        }                                                                        \
        tell(i, n_done);                                                         \
    }

void main()
{
    patience = run.patience;
    bool stays = true;
    for (uint i = run.begin; i < run.end; i++) {
        vly_op op = run.ops.at[i];
        // Ops before this dispatch's are done.
        for (uint j = max(op.before, run.begin); j < op.first && stays; j++)
            stays = await(j, run.ops.at[j].jobs_x * run.ops.at[j].jobs_y);
        if (!stays) break;
        role = op.role;
        p = op.product;
        attention = op.attention;
        uint n_tok = run.step.s.n_tok; // fewer than there are jobs for
        DO_JOBS(VLY_OP_PRODUCT, if (y * COLUMNS < n_tok) product(x, y))
        DO_JOBS(VLY_OP_STORE, if (y < n_tok) kv_store(y, x))
        DO_JOBS(VLY_OP_ATTENTION, if (y < n_tok) attend(y, x))
    }
}
