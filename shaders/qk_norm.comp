// An RMS norm of each head of Q and K, or of all of Q and of K, then the rotary embedding. One subgroup for
// each of these and each token.
#version 460
#extension GL_GOOGLE_include_directive : require
#define VLY_TEXEL 0
#include "common.glsl"
layout(push_constant, scalar) uniform Push { vly_push_qk_norm p; };

void main()
{
    uint which = gl_WorkGroupID.x, token = gl_WorkGroupID.y, head_quads = p.head_dim / 4u;
    if (token >= p.step.s.n_tok) return;
    uint head = which, heads = 1u;
    uint weights = p.weights_quad + (head < p.n_head ? 0u : head_quads);
    if (p.whole != 0u) {
        head = which == 0u ? 0u : p.n_head;
        heads = which == 0u ? p.n_head : p.n_head_kv;
        weights = p.weights_quad + head * head_quads;
    }
    uint at = p.qkv_quad + token * p.qkv_stride + head * head_quads;
    uint rope = p.rope_quad + p.step.s.token[token].pos * head_quads;
    precise float squares = 0.0;
    for (uint i = gl_SubgroupInvocationID; i < heads * head_quads; i += gl_SubgroupSize)
        squares = dot_add(p.act.at[at + i], p.act.at[at + i], squares);
    precise float mean = subgroupAdd(squares) / float(heads * p.head_dim);
    float factor = inversesqrt(mean + p.norm_epsilon);
    for (uint i = gl_SubgroupInvocationID; i < heads * head_quads; i += gl_SubgroupSize) {
        precise vec4 y = p.act.at[at + i] * factor * p.act.at[weights + i];
        vec4 cs = p.act.at[rope + i % head_quads];
        precise vec4 along = y * cs.xxzz, across = y * cs.yyww;
        precise vec4 rotated = along + vec4(-across.y, across.x, -across.w, across.z);
        p.act.at[at + i] = rotated;
    }
}
