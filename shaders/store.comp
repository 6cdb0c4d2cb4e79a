// Prompt chunks: stores K and V of every token of the step. One subgroup for each (KV head, token).
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "kv.glsl"

void main()
{
    if (gl_WorkGroupID.y < p.step.s.n_tok) kv_store(gl_WorkGroupID.y, gl_WorkGroupID.x);
}
