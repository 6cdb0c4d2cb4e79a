// An RMS norm of each head of Q and K, then the rotary embedding. One subgroup for each (head, token).
#version 460
#extension GL_GOOGLE_include_directive : require
#define VLY_TEXEL 0
#include "common.glsl"
layout(push_constant, scalar) uniform Push { vly_push_qk_norm p; };

void main()
{
    uint head = gl_WorkGroupID.x, token = gl_WorkGroupID.y, head_quads = p.head_dim / 4u;
    if (token >= p.step.s.n_tok) return;
    uint at = p.qkv_quad + token * p.qkv_stride + head * head_quads;
    uint weights = p.weights_quad + (head < p.n_head ? 0u : head_quads);
    uint rope = p.rope_quad + p.step.s.token[token].pos * head_quads;
    precise float squares = 0.0;
    for (uint i = gl_SubgroupInvocationID; i < head_quads; i += gl_SubgroupSize)
        squares = dot_add(p.act.at[at + i], p.act.at[at + i], squares);
    precise float mean = subgroupAdd(squares) / float(p.head_dim);
    float factor = inversesqrt(mean + p.norm_epsilon);
    for (uint i = gl_SubgroupInvocationID; i < head_quads; i += gl_SubgroupSize) {
        precise vec4 y = p.act.at[at + i] * factor * p.act.at[weights + i];
        vec4 cs = p.act.at[rope + i];
        precise vec4 along = y * cs.xxzz, across = y * cs.yyww;
        precise vec4 rotated = along + vec4(-across.y, across.x, -across.w, across.z);
        p.act.at[at + i] = rotated;
    }
}
