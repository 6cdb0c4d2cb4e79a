/* Asks the device how its matrix units take their operands: the kernels of the tile form lay
 * weights out for one answer (shaders/matrix_probe.comp) and are used only where it is given. */
#include "gpu/gpu_internal.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define SUBGROUP 32u

static bool has_shape(const VkCooperativeMatrixPropertiesKHR *p)
{
    return p->MSize == 16 && p->NSize == 8 && p->KSize == 16 &&
           (int)p->AType == VK_COMPONENT_TYPE_FLOAT16_KHR &&
           (int)p->BType == VK_COMPONENT_TYPE_FLOAT16_KHR &&
           (int)p->CType == VK_COMPONENT_TYPE_FLOAT32_KHR &&
           (int)p->ResultType == VK_COMPONENT_TYPE_FLOAT32_KHR &&
           (int)p->scope == VK_SCOPE_SUBGROUP_KHR && !p->saturatingAccumulation;
}

static bool offers_shape(const vly_gpu *gpu)
{
    PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR get =
        (PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)vkGetInstanceProcAddr(
            gpu->instance, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    uint32_t n = 0;
    if (!get || get(gpu->physical, &n, NULL) || n == 0) return false;
    VkCooperativeMatrixPropertiesKHR *all = calloc(n, sizeof *all);
    if (!all) return false;
    for (uint32_t i = 0; i < n; i++)
        all[i].sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR;
    bool found = false;
    if (get(gpu->physical, &n, all) == VK_SUCCESS)
        for (uint32_t i = 0; i < n; i++) found = found || has_shape(&all[i]);
    free(all);
    return found;
}

/* Runs the probe: it leaves 1 in the first word where every operand is where it should be. */
static int probe(vly_gpu *gpu, bool *as_expected, vly_error *err)
{
    vly_gpu_buffer answer = {0};
    vly_gpu_kernel *kernel;
    vly_gpu_commands *commands = NULL;
    const uint32_t width = SUBGROUP;
    int rc =
        vly_gpu_buffer_create(gpu, 16, VLY_GPU_READBACK, "probe of matrix units", &answer, err);
    if (rc == 0)
        rc = vly_gpu_kernel_get(gpu, VLY_SHADER_matrix_probe, &width, 1, SUBGROUP, &kernel, err);
    if (rc == 0) rc = vly_gpu_commands_create(gpu, "probe of matrix units", &commands, err);
    if (rc == 0) {
        vly_gpu_cmd_dispatch(commands, kernel, NULL, &answer.address, sizeof answer.address, 1, 1,
                             1);
        rc = gpu_run(gpu, commands, err);
    }
    if (rc == 0) *as_expected = *(const uint32_t *)answer.mapped == 1;
    vly_gpu_commands_destroy(commands);
    vly_gpu_buffer_destroy(gpu, &answer);
    return rc;
}

int gpu_matrix_units_find(vly_gpu *gpu, vly_error *err)
{
    vly_gpu_info *info = &gpu->caps.info;
    bool sized = info->subgroup_size == SUBGROUP ||
                 (info->subgroup_size_control && info->subgroup_size_min <= SUBGROUP &&
                  info->subgroup_size_max >= SUBGROUP);
    info->matrix_units = false;
    if (!info->coop_matrix || !info->f16 || !sized || info->type == VLY_GPU_CPU ||
        info->max_workgroup_invocations < 512 || !offers_shape(gpu))
        return 0;
    int rc = probe(gpu, &info->matrix_units, err);
    if (rc == 0 && !info->matrix_units)
        vly_log(VLY_LOG_INFO, "gpu", "matrix units hold their operands otherwise: not used");
    return rc;
}
