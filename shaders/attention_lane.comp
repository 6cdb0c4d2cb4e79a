// Attention with one subgroup to a workgroup: for (KV head and HEADS of its query heads, token).
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "attention.glsl"

void main()
{
    uint token = gl_WorkGroupID.y;
    if (token >= p.step.s.n_tok) return;
    begin_token(token, gl_WorkGroupID.x);
    if (STORED == 0u && first_of_kv) kv_store(token, kv_head);
    begin_blocks();
    for (uint start = from / LANES * LANES; start < len; start += LANES) add_block(start);
    [[unroll]] for (uint h = 0; h < HEADS; h++)
        [[unroll]] for (uint j = 0; j < PART_ROUNDS * KV_QUADS; j++) {
            uint part = gl_SubgroupInvocationID + j / KV_QUADS * PART_LANES;
            precise vec4 y = whole_sum(h, j) / total[h];
            if (gl_SubgroupInvocationID < PART_LANES && part < KV_PARTS)
                p.act.at[p.out_quad + token * p.out_stride + (head + h) * (HEAD_DIM / 4u) +
                         part * KV_QUADS + j % KV_QUADS] = y;
        }
}
