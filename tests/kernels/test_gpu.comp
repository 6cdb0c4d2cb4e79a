#version 460
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference_uvec2 : require

// y[i] = scale * x[i] + add + factor * (texel i of the view of the weights as words), i < n.

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint add = 0;
layout(constant_id = 2) const uint scale = 1;
layout(constant_id = 3) const uint factor = 0;

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
    words(push.y).v[i] = scale * words(push.x).v[i] + add + factor * texelFetch(weights, int(i)).x;
}
