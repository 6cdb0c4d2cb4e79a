#include "gpu/gpu_internal.h"
#include "gpu/shader_table.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

int gpu_layouts_create(vly_gpu *gpu, vly_error *err)
{
    VkDescriptorSetLayoutBinding bindings[VLY_GPU_N_VIEWS];
    for (uint32_t i = 0; i < VLY_GPU_N_VIEWS; i++)
        bindings[i] = (VkDescriptorSetLayoutBinding){.binding = i,
                                                     .descriptorType =
                                                         VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER,
                                                     .descriptorCount = 1,
                                                     .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
    VkDescriptorSetLayoutCreateInfo set = {.sType =
                                               VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
                                           .bindingCount = VLY_GPU_N_VIEWS,
                                           .pBindings = bindings};
    VkResult result = vkCreateDescriptorSetLayout(gpu->device, &set, NULL, &gpu->set_layout);
    if (result) return gpu_fail_vk(err, result, "vkCreateDescriptorSetLayout");
    VkPushConstantRange push = {VK_SHADER_STAGE_COMPUTE_BIT, 0, VLY_GPU_MAX_PUSH_BYTES};
    VkPipelineLayoutCreateInfo pipeline = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                           .setLayoutCount = 1,
                                           .pSetLayouts = &gpu->set_layout,
                                           .pushConstantRangeCount = 1,
                                           .pPushConstantRanges = &push};
    result = vkCreatePipelineLayout(gpu->device, &pipeline, NULL, &gpu->pipeline_layout);
    if (result) return gpu_fail_vk(err, result, "vkCreatePipelineLayout");
    return 0;
}

void gpu_kernels_destroy(vly_gpu *gpu)
{
    for (uint32_t i = 0; i < N_BUCKETS; i++) {
        for (vly_gpu_kernel *k = gpu->buckets[i], *next; k; k = next) {
            next = k->next;
            vkDestroyPipeline(gpu->device, k->pipeline, NULL);
            free(k);
        }
        gpu->buckets[i] = NULL;
    }
    vkDestroyPipelineLayout(gpu->device, gpu->pipeline_layout, NULL);
    vkDestroyDescriptorSetLayout(gpu->device, gpu->set_layout, NULL);
    vkDestroyPipelineCache(gpu->device, gpu->pipeline_cache, NULL);
}

/* The hash is over words alone, so that no padding takes part. */
static uint64_t hash_of(const vly_gpu_kernel *k)
{
    uint64_t words[3 + VLY_GPU_MAX_CONSTANTS] = {(uintptr_t)k->words, k->n_constants,
                                                 k->subgroup_size};
    for (uint32_t i = 0; i < k->n_constants; i++) words[3 + i] = k->constants[i];
    return XXH3_64bits(words, sizeof words);
}

static vly_gpu_kernel *find(const vly_gpu *gpu, const vly_gpu_kernel *key)
{
    for (vly_gpu_kernel *k = gpu->buckets[key->hash % N_BUCKETS]; k; k = k->next)
        if (k->hash == key->hash && k->words == key->words && k->n_constants == key->n_constants &&
            k->subgroup_size == key->subgroup_size &&
            !memcmp(k->constants, key->constants, sizeof key->constants))
            return k;
    return NULL;
}

/* Is the workgroup's width within what the device and the wanted subgroups allow? */
static int check_width(const vly_gpu *gpu, const vly_gpu_kernel *key, const char *name,
                       vly_error *err)
{
    if (key->n_constants == 0) return 0;
    uint32_t width = key->constants[0], most = gpu->caps.info.max_workgroup_invocations;
    if (most > gpu->caps.max_workgroup_width) most = gpu->caps.max_workgroup_width;
    if (width == 0 || width > most)
        return vly_fail(err, VLY_E_INVALID, "kernel %s: workgroups of %u, expected 1 to %u", name,
                        width, most);
    uint32_t size = key->subgroup_size;
    if (size && (width % size || width / size > gpu->caps.max_workgroup_subgroups))
        return vly_fail(err, VLY_E_INVALID,
                        "kernel %s: workgroups of %u, expected 1 to %u subgroups of %u", name,
                        width, gpu->caps.max_workgroup_subgroups, size);
    return 0;
}

static int create_pipeline(vly_gpu *gpu, const gpu_spirv *spirv, const vly_gpu_kernel *kernel,
                           VkPipeline *out, vly_error *err)
{
    VkShaderModule module;
    VkShaderModuleCreateInfo code = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                     .codeSize = spirv->n_bytes,
                                     .pCode = spirv->words};
    VkResult result = vkCreateShaderModule(gpu->device, &code, NULL, &module);
    if (result) return gpu_fail_vk(err, result, "kernel %s: vkCreateShaderModule", spirv->name);
    VkSpecializationMapEntry entries[VLY_GPU_MAX_CONSTANTS];
    for (uint32_t i = 0; i < kernel->n_constants; i++)
        entries[i] = (VkSpecializationMapEntry){i, i * 4, 4};
    VkSpecializationInfo constants = {kernel->n_constants, entries, kernel->n_constants * 4,
                                      kernel->constants};
    VkPipelineShaderStageRequiredSubgroupSizeCreateInfo subgroup = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO,
        .requiredSubgroupSize = kernel->subgroup_size};
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .pNext = kernel->subgroup_size ? &subgroup : NULL,
                  .flags = kernel->subgroup_size
                               ? VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT
                               : 0,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = module,
                  .pName = "main",
                  .pSpecializationInfo = &constants},
        .layout = gpu->pipeline_layout};
    result = vkCreateComputePipelines(gpu->device, gpu->pipeline_cache, 1, &info, NULL, out);
    vkDestroyShaderModule(gpu->device, module, NULL);
    if (result) return gpu_fail_vk(err, result, "kernel %s: vkCreateComputePipelines", spirv->name);
    return 0;
}

/* The kernel, where there is one or another thread is about to have made it; else a place for it,
 * for the caller to fill: *mine. NULL: no memory. */
static vly_gpu_kernel *find_or_claim(vly_gpu *gpu, const vly_gpu_kernel *key, bool *mine)
{
    *mine = false;
    pthread_mutex_lock(&gpu->kernels_mutex);
    vly_gpu_kernel *kernel;
    while ((kernel = find(gpu, key)) && !kernel->pipeline)
        pthread_cond_wait(&gpu->kernel_made, &gpu->kernels_mutex);
    if (!kernel && (kernel = malloc(sizeof *kernel))) {
        vly_gpu_kernel **bucket = &gpu->buckets[key->hash % N_BUCKETS];
        *kernel = *key;
        kernel->next = *bucket;
        *bucket = kernel;
        *mine = true;
    }
    pthread_mutex_unlock(&gpu->kernels_mutex);
    return kernel;
}

/* Fills the caller's place, or takes it away where `pipeline` is none. */
static void settle(vly_gpu *gpu, vly_gpu_kernel *kernel, VkPipeline pipeline)
{
    pthread_mutex_lock(&gpu->kernels_mutex);
    vly_gpu_kernel **at = &gpu->buckets[kernel->hash % N_BUCKETS];
    while (*at != kernel) at = &(*at)->next;
    kernel->pipeline = pipeline;
    gpu->cache_dirty |= pipeline != VK_NULL_HANDLE;
    if (!pipeline) *at = kernel->next;
    pthread_cond_broadcast(&gpu->kernel_made);
    pthread_mutex_unlock(&gpu->kernels_mutex);
    if (!pipeline) free(kernel);
}

int gpu_kernel_get(vly_gpu *gpu, const gpu_spirv *spirv, const uint32_t *constants,
                   uint32_t n_constants, uint32_t subgroup_size, vly_gpu_kernel **out,
                   vly_error *err)
{
    *out = NULL;
    int rc = gpu_check(gpu, err);
    if (rc) return rc;
    if (n_constants > VLY_GPU_MAX_CONSTANTS)
        return vly_fail(err, VLY_E_INVALID, "kernel %s: %u constants, expected at most %d",
                        spirv->name, n_constants, VLY_GPU_MAX_CONSTANTS);
    const vly_gpu_info *info = &gpu->caps.info;
    bool can = info->subgroup_size_control && subgroup_size >= info->subgroup_size_min &&
               subgroup_size <= info->subgroup_size_max && !(subgroup_size & (subgroup_size - 1));
    vly_gpu_kernel key = {.words = spirv->words,
                          .n_constants = n_constants,
                          .subgroup_size = can ? subgroup_size : 0};
    if (n_constants) memcpy(key.constants, constants, n_constants * sizeof *constants);
    key.hash = hash_of(&key);
    rc = check_width(gpu, &key, spirv->name, err);
    if (rc) return rc;
    bool mine;
    vly_gpu_kernel *kernel = find_or_claim(gpu, &key, &mine);
    if (!kernel) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a kernel");
    if (mine) {
        VkPipeline pipeline = VK_NULL_HANDLE;
        rc = create_pipeline(gpu, spirv, kernel, &pipeline, err);
        settle(gpu, kernel, pipeline);
    }
    if (rc == 0) *out = kernel;
    return rc;
}

int vly_gpu_kernel_get(vly_gpu *gpu, vly_shader_id shader, const uint32_t *constants,
                       uint32_t n_constants, uint32_t subgroup_size, vly_gpu_kernel **out,
                       vly_error *err)
{
    *out = NULL;
    if ((uint32_t)shader >= VLY_N_SHADERS)
        return vly_fail(err, VLY_E_INVALID, "shader %u, expected less than %u", (uint32_t)shader,
                        (uint32_t)VLY_N_SHADERS);
    const vly_shader_binary *binary = &vly_shader_table[shader];
    gpu_spirv spirv = {binary->name, binary->words,
                       (size_t)((const char *)binary->end - (const char *)binary->words)};
    return gpu_kernel_get(gpu, &spirv, constants, n_constants, subgroup_size, out, err);
}
