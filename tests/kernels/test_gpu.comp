#version 460
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference_uvec2 : require

// y[i] = add + x[i] + texel i of the weights view (0 where use_view is 0), i < n.

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint add = 0;
layout(constant_id = 2) const uint use_view = 0;

layout(set = 0, binding = 1) uniform utextureBuffer weights;
layout(buffer_reference, std430, buffer_reference_align = 4) buffer words { uint v[]; };
layout(push_constant) uniform push_block
{
    uvec2 x, y;
    uint n;
} push;

void main()
{
    uint i = gl_GlobalInvocationID.x;
    if (i >= push.n) return;
    uint w = 0;
    if (use_view != 0) w = texelFetch(weights, int(i)).x;
    words(push.y).v[i] = add + words(push.x).v[i] + w;
}
