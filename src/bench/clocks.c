/* The clocks that a device runs at, from wherever the system tells them. */
#include "bench/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NVIDIA 0x10deu

static bool read_line(const char *command, char *out, size_t n)
{
    FILE *pipe = popen(command, "re");
    if (!pipe) return false;
    bool got = fgets(out, (int)n, pipe) != NULL;
    if (pclose(pipe) != 0) got = false;
    if (got) out[strcspn(out, "\n")] = '\0';
    return got && out[0];
}

static bool nvidia_clocks(const vly_gpu_info *info, char *out, size_t n)
{
    const uint8_t *u = info->device_uuid;
    char command[256], figures[64];
    snprintf(
        command, sizeof command,
        "nvidia-smi -i GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x"
        " --query-gpu=clocks.sm,clocks.max.sm,clocks.mem --format=csv,noheader,nounits"
        " 2>/dev/null",
        u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13],
        u[14], u[15]);
    unsigned now, most, memory;
    if (!read_line(command, figures, sizeof figures) ||
        sscanf(figures, "%u, %u, %u", &now, &most, &memory) != 3)
        return false;
    snprintf(out, n, "%u MHz of at most %u; memory %u MHz", now, most, memory);
    return true;
}

/* As the first processor says. */
static bool processor_clock(char *out, size_t n)
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (!file) return false;
    char line[256], *colon;
    double mhz = 0;
    while (mhz <= 0 && fgets(line, sizeof line, file))
        if (strncmp(line, "cpu MHz", 7) == 0 && (colon = strchr(line, ':')))
            mhz = strtod(colon + 1, NULL);
    fclose(file);
    if (mhz <= 0) return false;
    snprintf(out, n, "%.0f MHz, %ld processors", mhz, sysconf(_SC_NPROCESSORS_ONLN));
    return true;
}

bool vly_bench_clocks(const vly_gpu_info *info, char *out, size_t n)
{
    if (info->type == VLY_GPU_CPU) return processor_clock(out, n);
    return info->vendor_id == NVIDIA && nvidia_clocks(info, out, n);
}
