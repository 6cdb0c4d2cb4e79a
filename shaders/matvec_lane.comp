// y = W x of the lane form: a workgroup for (rows of its subgroups, columns).
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "matvec_lane.glsl"

void main()
{
    uint x = gl_WorkGroupID.x * gl_NumSubgroups + gl_SubgroupID;
    if (gl_WorkGroupID.y * COLUMNS < n_columns()) product(x, gl_WorkGroupID.y);
}
