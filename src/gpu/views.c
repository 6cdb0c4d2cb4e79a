#include "gpu/gpu_internal.h"

#include <stdlib.h>

/* What each binding of set 0 reads: which of the buffers (weights, activations, kv), and as what.
 */
static const struct {
    uint32_t buffer;
    VkFormat format;
    uint32_t texel_bytes;
    bool may_cut; /* a view over the first part of a larger buffer will do */
} bindings[VLY_GPU_N_VIEWS] = {
    {0, VK_FORMAT_R32G32B32A32_UINT, 16, false},
    {0, VK_FORMAT_R32_UINT, 4, true},
    {1, VK_FORMAT_R32G32B32A32_SFLOAT, 16, false},
    {2, VK_FORMAT_R32G32B32A32_UINT, 16, false},
};

static int create_view(vly_gpu *gpu, const vly_gpu_buffer *buffer, uint32_t binding,
                       VkBufferView *out, vly_error *err)
{
    uint32_t texel_bytes = bindings[binding].texel_bytes;
    uint64_t most = gpu->caps.info.max_texel_elements;
    uint64_t n_texels = buffer->n_bytes / texel_bytes;
    if (bindings[binding].may_cut && n_texels > most) n_texels = most;
    if (n_texels == 0 || n_texels > most)
        return vly_fail(err, VLY_E_UNSUPPORTED,
                        "view %u of a buffer of %.1f MiB: expected %u bytes to %.1f MiB on %s",
                        binding, MIB(buffer->n_bytes), texel_bytes, MIB(most * texel_bytes),
                        gpu->caps.info.name);
    VkBufferViewCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_VIEW_CREATE_INFO,
                                   .buffer = buffer->handle,
                                   .format = bindings[binding].format,
                                   .range = n_texels * texel_bytes};
    VkResult result = vkCreateBufferView(gpu->device, &info, NULL, out);
    if (result) return gpu_fail_vk(err, result, "vkCreateBufferView of binding %u", binding);
    return 0;
}

static int create_set(vly_gpu *gpu, vly_gpu_views *views, vly_error *err)
{
    VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER, VLY_GPU_N_VIEWS};
    VkDescriptorPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                       .maxSets = 1,
                                       .poolSizeCount = 1,
                                       .pPoolSizes = &size};
    VkResult result = vkCreateDescriptorPool(gpu->device, &pool, NULL, &views->pool);
    if (result) return gpu_fail_vk(err, result, "vkCreateDescriptorPool");
    VkDescriptorSetAllocateInfo set = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                       .descriptorPool = views->pool,
                                       .descriptorSetCount = 1,
                                       .pSetLayouts = &gpu->set_layout};
    result = vkAllocateDescriptorSets(gpu->device, &set, &views->set);
    if (result) return gpu_fail_vk(err, result, "vkAllocateDescriptorSets");
    return 0;
}

int vly_gpu_views_create(vly_gpu *gpu, const vly_gpu_buffer *weights,
                         const vly_gpu_buffer *activations, const vly_gpu_buffer *kv,
                         vly_gpu_views **out, vly_error *err)
{
    *out = NULL;
    vly_gpu_views *views = calloc(1, sizeof *views);
    if (!views) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for views");
    const vly_gpu_buffer *buffers[] = {weights, activations, kv};
    int rc = create_set(gpu, views, err);
    for (uint32_t i = 0; !rc && i < VLY_GPU_N_VIEWS; i++) {
        const vly_gpu_buffer *buffer = buffers[bindings[i].buffer];
        if (!buffer) continue;
        rc = create_view(gpu, buffer, i, &views->views[i], err);
        if (rc) break;
        VkWriteDescriptorSet write = {.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                      .dstSet = views->set,
                                      .dstBinding = i,
                                      .descriptorCount = 1,
                                      .descriptorType = VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER,
                                      .pTexelBufferView = &views->views[i]};
        vkUpdateDescriptorSets(gpu->device, 1, &write, 0, NULL);
    }
    if (rc) {
        vly_gpu_views_destroy(gpu, views);
        return rc;
    }
    *out = views;
    return 0;
}

void vly_gpu_views_destroy(vly_gpu *gpu, vly_gpu_views *views)
{
    if (!views) return;
    for (uint32_t i = 0; i < VLY_GPU_N_VIEWS; i++)
        if (views->views[i]) vkDestroyBufferView(gpu->device, views->views[i], NULL);
    if (views->pool) vkDestroyDescriptorPool(gpu->device, views->pool, NULL);
    free(views);
}
