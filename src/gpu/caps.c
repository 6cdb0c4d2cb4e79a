#include "gpu/gpu_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUBGROUP_OPERATIONS                                                                        \
    (VK_SUBGROUP_FEATURE_BASIC_BIT | VK_SUBGROUP_FEATURE_VOTE_BIT |                                \
     VK_SUBGROUP_FEATURE_ARITHMETIC_BIT | VK_SUBGROUP_FEATURE_BALLOT_BIT |                         \
     VK_SUBGROUP_FEATURE_SHUFFLE_BIT)

typedef struct {
    VkExtensionProperties *list;
    uint32_t n;
} extensions;

static bool has_extension(const extensions *all, const char *name)
{
    for (uint32_t i = 0; i < all->n; i++)
        if (!strcmp(all->list[i].extensionName, name)) return true;
    return false;
}

/* Puts `element` at the front of the chain of structures that starts at `head`. */
static void chain(void *head, void *element)
{
    VkBaseOutStructure *first = head, *added = element;
    added->pNext = first->pNext;
    first->pNext = added;
}

static void query_memory(VkPhysicalDevice physical, gpu_caps *out)
{
    vkGetPhysicalDeviceMemoryProperties(physical, &out->memory);
    const VkPhysicalDeviceMemoryProperties *memory = &out->memory;
    bool all_local = true;
    VkDeviceSize largest = 0;
    for (uint32_t i = 0; i < memory->memoryHeapCount; i++) {
        bool local = memory->memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT;
        all_local = all_local && local;
        if (local && memory->memoryHeaps[i].size > largest) {
            largest = memory->memoryHeaps[i].size;
            out->device_heap = i;
        }
    }
    out->info.memory_bytes = largest;
    /* A card whose whole memory the host can map still has a heap of the host's: writing across the
     * bus from the host is no faster than the staging ring, so it counts as not unified. */
    const VkMemoryPropertyFlags both = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT |
                                       VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
                                       VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    for (uint32_t i = 0; all_local && i < memory->memoryTypeCount; i++)
        if (memory->memoryTypes[i].heapIndex == out->device_heap &&
            (memory->memoryTypes[i].propertyFlags & both) == both)
            out->info.unified = true;
    out->info.available_bytes = gpu_caps_available(physical, out, 0);
}

uint64_t gpu_caps_available(VkPhysicalDevice physical, const gpu_caps *caps, uint64_t used)
{
    uint64_t total = caps->info.memory_bytes;
    if (caps->info.memory_budget) {
        VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
            .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
        VkPhysicalDeviceMemoryProperties2 memory = {
            .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2, .pNext = &budget};
        vkGetPhysicalDeviceMemoryProperties2(physical, &memory);
        total = budget.heapBudget[caps->device_heap];
        used = budget.heapUsage[caps->device_heap];
    }
    return total > used ? total - used : 0;
}

/* The first family that computes; has compute, so has transfer too. */
static bool find_queue(VkPhysicalDevice physical, gpu_caps *out)
{
    VkQueueFamilyProperties families[32];
    uint32_t n = 32;
    vkGetPhysicalDeviceQueueFamilyProperties(physical, &n, families);
    for (uint32_t i = 0; i < n; i++) {
        if (!(families[i].queueFlags & VK_QUEUE_COMPUTE_BIT)) continue;
        out->queue_family = i;
        out->timestamp_bits = families[i].timestampValidBits;
        return true;
    }
    return false;
}

static vly_gpu_type type_of(VkPhysicalDeviceType type)
{
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
        return VLY_GPU_DISCRETE;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
        return VLY_GPU_INTEGRATED;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
        return VLY_GPU_VIRTUAL;
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
        return VLY_GPU_CPU;
    default:
        return VLY_GPU_OTHER;
    }
}

/* Properties that every usable device has a structure for. False where one forbids use. */
static void query_properties(VkPhysicalDevice physical, const extensions *all, gpu_caps *out)
{
    vly_gpu_info *info = &out->info;
    VkPhysicalDeviceVulkan11Properties v11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES};
    VkPhysicalDeviceVulkan12Properties v12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_PROPERTIES};
    VkPhysicalDeviceSubgroupSizeControlProperties subgroup = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES};
    VkPhysicalDeviceMaintenance4Properties maintenance4 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES};
    VkPhysicalDeviceShaderIntegerDotProductProperties dot = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES};
    VkPhysicalDeviceProperties2 properties = {.sType =
                                                  VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2};
    bool core13 = info->api_version >= VK_API_VERSION_1_3;
    bool has_maintenance4 = core13 || has_extension(all, VK_KHR_MAINTENANCE_4_EXTENSION_NAME);
    chain(&properties, &v11);
    chain(&properties, &v12);
    if (core13 || out->subgroup_size_extension) chain(&properties, &subgroup);
    if (has_maintenance4) chain(&properties, &maintenance4);
    if (core13 || out->int_dot_extension) chain(&properties, &dot);
    vkGetPhysicalDeviceProperties2(physical, &properties);

    const VkPhysicalDeviceLimits *limits = &properties.properties.limits;
    snprintf(info->driver, sizeof info->driver, "%.127s%s%.120s", v12.driverName,
             v12.driverInfo[0] ? " " : "", v12.driverInfo);
    memcpy(info->device_uuid, v11.deviceUUID, sizeof info->device_uuid);
    info->max_allocation_bytes = v11.maxMemoryAllocationSize;
    info->max_buffer_bytes =
        has_maintenance4 ? maintenance4.maxBufferSize : v11.maxMemoryAllocationSize;
    info->max_texel_elements = limits->maxTexelBufferElements;
    info->subgroup_size = info->subgroup_size_min = info->subgroup_size_max = v11.subgroupSize;
    if (subgroup.maxSubgroupSize) {
        info->subgroup_size_min = subgroup.minSubgroupSize;
        info->subgroup_size_max = subgroup.maxSubgroupSize;
        out->max_workgroup_subgroups = subgroup.maxComputeWorkgroupSubgroups;
    }
    info->max_workgroup_invocations = limits->maxComputeWorkGroupInvocations;
    info->shared_bytes = limits->maxComputeSharedMemorySize;
    info->timestamp_ns = out->timestamp_bits ? (double)limits->timestampPeriod : 0;
    info->int8_dot = dot.integerDotProduct4x8BitPackedSignedAccelerated;
    out->max_workgroup_width = limits->maxComputeWorkGroupSize[0];
    memcpy(out->max_groups, limits->maxComputeWorkGroupCount, sizeof out->max_groups);
    if (!(v11.subgroupSupportedStages & VK_SHADER_STAGE_COMPUTE_BIT) ||
        (v11.subgroupSupportedOperations & SUBGROUP_OPERATIONS) != SUBGROUP_OPERATIONS)
        snprintf(info->why_not, sizeof info->why_not,
                 "it lacks subgroup operations in compute shaders (has 0x%x, needs 0x%x)",
                 (unsigned)v11.subgroupSupportedOperations, (unsigned)SUBGROUP_OPERATIONS);
}

static void query_features(VkPhysicalDevice physical, gpu_caps *out)
{
    vly_gpu_info *info = &out->info;
    VkPhysicalDeviceVulkan12Features v12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES};
    VkPhysicalDeviceVulkan11Features v11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES};
    VkPhysicalDeviceSubgroupSizeControlFeatures subgroup = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES};
    VkPhysicalDeviceShaderIntegerDotProductFeatures dot = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES};
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR coop = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR};
    VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2};
    bool core13 = info->api_version >= VK_API_VERSION_1_3;
    chain(&features, &v11);
    chain(&features, &v12);
    if (core13 || out->subgroup_size_extension) chain(&features, &subgroup);
    if (core13 || out->int_dot_extension) chain(&features, &dot);
    if (info->coop_matrix) chain(&features, &coop);
    vkGetPhysicalDeviceFeatures2(physical, &features);

    info->f16 = v12.shaderFloat16 && v11.storageBuffer16BitAccess;
    info->int64 = features.features.shaderInt64;
    info->subgroup_size_control = subgroup.subgroupSizeControl && subgroup.computeFullSubgroups;
    out->has_int_dot = dot.shaderIntegerDotProduct;
    info->int8_dot = info->int8_dot && out->has_int_dot;
    info->coop_matrix = info->coop_matrix && coop.cooperativeMatrix && v12.vulkanMemoryModel;
    const char *lacks = !v12.bufferDeviceAddress ? "bufferDeviceAddress"
                        : !v12.timelineSemaphore ? "timelineSemaphore"
                        : !v12.hostQueryReset    ? "hostQueryReset"
                        : !v12.scalarBlockLayout ? "scalarBlockLayout"
                                                 : NULL;
    if (lacks) snprintf(info->why_not, sizeof info->why_not, "it lacks %s", lacks);
}

static void query(VkPhysicalDevice physical, const extensions *all, gpu_caps *out)
{
    vly_gpu_info *info = &out->info;
    bool core13 = info->api_version >= VK_API_VERSION_1_3;
    out->int_dot_extension =
        !core13 && has_extension(all, VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME);
    out->subgroup_size_extension =
        !core13 && has_extension(all, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME);
    info->memory_budget = has_extension(all, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    info->coop_matrix = has_extension(all, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME);
    bool has_queue = find_queue(physical, out);
    query_properties(physical, all, out);
    query_features(physical, out);
    query_memory(physical, out);
    if (!has_queue)
        snprintf(info->why_not, sizeof info->why_not, "it has no compute queue");
    else if (info->memory_bytes == 0)
        snprintf(info->why_not, sizeof info->why_not, "it has no memory of its own");
    info->usable = !info->why_not[0];
}

int gpu_caps_query(VkPhysicalDevice physical, uint32_t index, gpu_caps *out, vly_error *err)
{
    *out = (gpu_caps){0};
    vly_gpu_info *info = &out->info;
    VkPhysicalDeviceProperties properties;
    vkGetPhysicalDeviceProperties(physical, &properties);
    info->index = index;
    snprintf(info->name, sizeof info->name, "%s", properties.deviceName);
    info->driver_version = properties.driverVersion;
    info->vendor_id = properties.vendorID;
    info->device_id = properties.deviceID;
    info->api_version = properties.apiVersion;
    memcpy(info->pipeline_cache_uuid, properties.pipelineCacheUUID, VK_UUID_SIZE);
    info->type = type_of(properties.deviceType);
    if (info->api_version < VK_API_VERSION_1_2) {
        snprintf(info->why_not, sizeof info->why_not, "it offers Vulkan %u.%u, needed is 1.2",
                 VK_API_VERSION_MAJOR(info->api_version), VK_API_VERSION_MINOR(info->api_version));
        return 0;
    }
    extensions all = {0};
    VkResult result = vkEnumerateDeviceExtensionProperties(physical, NULL, &all.n, NULL);
    if (!result && all.n) {
        all.list = calloc(all.n, sizeof *all.list);
        if (!all.list) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for extension names");
        result = vkEnumerateDeviceExtensionProperties(physical, NULL, &all.n, all.list);
    }
    if (result >= 0) query(physical, &all, out);
    free(all.list);
    if (result < 0) return gpu_fail_vk(err, result, "extensions of %s", info->name);
    return 0;
}
