// Attention with one subgroup to a workgroup: for (KV head and HEADS of its query heads, token).
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "attention_lane.glsl"

void main()
{
    if (gl_WorkGroupID.y < p.step.s.n_tok) attend(gl_WorkGroupID.y, gl_WorkGroupID.x);
}
