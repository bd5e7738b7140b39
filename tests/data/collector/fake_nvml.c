/* A small libnvidia-ml.so.1 for tests, built against NVIDIA's own nvml.h so that every struct is the real one.
 *
 * Behaviour comes from the environment variable FAKE_NVML, read by nvmlInitWithFlags: "key=value;key=value".
 *   gpus=N            number of GPUs (default 1)
 *   gpm=0             GPM is not supported
 *   gpm_error=ID      this GPM metric has an error of its own
 *   gpm_nan=ID        this GPM metric is NaN with a success code
 *   no_field=ID       this field value is not supported (no_field2 as well)
 *   backwards_after=N the energy counter restarts after N reads
 *   lost_after=N      GPU 0 is lost after N batches of field values
 *   init_error=CODE   nvmlInitWithFlags fails
 *   driver=R          release of the driver 580.R.04
 *   pid=PID           a compute process on GPU 0
 *   throttled=1       power cap and heat hold the clocks down all the time
 *   mig=N             GPU 0 is in MIG mode with N slices
 *   mixed=1           GPU 1 is another product
 * Compiled with -DOLD_DRIVER, calls that came with newer drivers are missing.
 */
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include <math.h>
#include <nvml.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct nvmlDevice_st { unsigned int index; int slice; /* -1 for a GPU */ };
struct nvmlGpmSample_st { unsigned long long taken_ns; };

static struct nvmlDevice_st gpus[8], slices[7];
static unsigned long long start_ns;
static long n_gpus, energy_reads, field_batches, live_samples, slow_calls, shutdowns, min_spacing_us;
static unsigned long long last_sample_ns[8];

/* Without it the real monotonic clock is used. */
static unsigned long long manual_ns;
void fake_set_clock(unsigned long long ns) { manual_ns = ns; }

static unsigned long long now_ns(void) {
    struct timespec t;
    if (manual_ns != 0) return manual_ns;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (unsigned long long)t.tv_sec * 1000000000ull + (unsigned long long)t.tv_nsec;
}

static long option(const char *key, long fallback) {
    const char *text = getenv("FAKE_NVML");
    size_t length = strlen(key);
    while (text != NULL && *text != '\0') {
        if (strncmp(text, key, length) == 0 && text[length] == '=') return atol(text + length + 1);
        text = strchr(text, ';');
        if (text != NULL) text++;
    }
    return fallback;
}

static int is_lost(nvmlDevice_t gpu) {
    long after = option("lost_after", -1);
    return gpu->index == 0 && after >= 0 && field_batches >= after;
}

#define ALIVE(gpu) if (is_lost(gpu)) return NVML_ERROR_GPU_IS_LOST

/* for the tests */
long fake_count(const char *what) {
    if (strcmp(what, "live_samples") == 0) return live_samples;
    if (strcmp(what, "slow_calls") == 0) return slow_calls;
    if (strcmp(what, "shutdowns") == 0) return shutdowns;
    if (strcmp(what, "min_spacing_us") == 0) return min_spacing_us;
    return -1;
}

nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
    long error = option("init_error", 0);
    (void)flags;
    if (error != 0) return (nvmlReturn_t)error;
    start_ns = now_ns();
    n_gpus = option("gpus", 1);
    energy_reads = field_batches = live_samples = slow_calls = shutdowns = 0;
    min_spacing_us = 1000000000;
    for (unsigned int i = 0; i < 8; i++) gpus[i].index = i, gpus[i].slice = -1, last_sample_ns[i] = 0;
    for (int i = 0; i < 7; i++) slices[i].index = 0, slices[i].slice = i;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlShutdown(void) { shutdowns++; return NVML_SUCCESS; }
const char *nvmlErrorString(nvmlReturn_t result) { (void)result; return "fake error"; }

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    snprintf(version, length, "580.%ld.04", option("driver", 159));
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) { *count = (unsigned int)n_gpus; return NVML_SUCCESS; }

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *gpu) {
    if (index >= (unsigned int)n_gpus) return NVML_ERROR_INVALID_ARGUMENT;
    *gpu = &gpus[index];
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t gpu, char *uuid, unsigned int length) {
    if (gpu->slice >= 0) snprintf(uuid, length, "MIG-5111ce0%d-0000-5000-8000-000000000000", gpu->slice);
    else snprintf(uuid, length, "GPU-0000000%u-0000-0000-0000-000000000000", gpu->index);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t gpu, char *name, unsigned int length) {
    ALIVE(gpu);
    if (gpu->slice >= 0) snprintf(name, length, "Fake H200 MIG 1g.18gb");
    else snprintf(name, length, gpu->index == 1 && option("mixed", 0) ? "Fake L4" : "Fake H200");
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t gpu, unsigned int *limit) {
    ALIVE(gpu);
    *limit = 700000;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t gpu, nvmlClockType_t type, unsigned int *clock) {
    ALIVE(gpu);
    *clock = type == NVML_CLOCK_MEM ? 3201 : 1980;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryBusWidth(nvmlDevice_t gpu, unsigned int *width) {
    ALIVE(gpu);
    *width = 6016;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t gpu, nvmlEnableState_t *mode) {
    ALIVE(gpu);
    *mode = NVML_FEATURE_ENABLED;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t gpu, int *major, int *minor) {
    ALIVE(gpu);
    *major = 9, *minor = 0;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t gpu, unsigned int *current, unsigned int *pending) {
    if (option("mig", -1) < 0) return NVML_ERROR_NOT_SUPPORTED;
    *current = *pending = gpu->index == 0 ? NVML_DEVICE_MIG_ENABLE : NVML_DEVICE_MIG_DISABLE;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t gpu, unsigned int *count) {
    (void)gpu;
    *count = 7;
    return NVML_SUCCESS;
}

/* Position 0 stays empty: slices that were destroyed leave holes. */
nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t gpu, unsigned int index, nvmlDevice_t *slice) {
    (void)gpu;
    if (index == 0 || index > (unsigned int)option("mig", 0)) return NVML_ERROR_NOT_FOUND;
    *slice = &slices[index - 1];
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t slice, unsigned int *id) {
    if (slice->slice < 0) return NVML_ERROR_INVALID_ARGUMENT;
    *id = 7u + (unsigned int)slice->slice;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t gpu, nvmlMemory_t *memory) {
    ALIVE(gpu);
    memory->total = (gpu->slice >= 0 ? 16384ull : 143771ull) << 20;
    memory->used = 0, memory->free = memory->total;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t gpu, nvmlClockType_t type, unsigned int *clock) {
    ALIVE(gpu);
    *clock = type == NVML_CLOCK_MEM ? 3201 : option("throttled", 0) ? 1500 : 1980;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t gpu, nvmlUtilization_t *rates) {
    ALIVE(gpu);
    rates->gpu = 98, rates->memory = 23;
    return NVML_SUCCESS;
}

static nvmlReturn_t reasons(nvmlDevice_t gpu, unsigned long long *bits) {
    ALIVE(gpu);
    *bits = option("throttled", 0) ? nvmlClocksEventReasonSwPowerCap | nvmlClocksEventReasonSwThermalSlowdown : 0;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t gpu, unsigned long long *bits) {
    return reasons(gpu, bits);
}

nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t gpu, unsigned int *power) {
    ALIVE(gpu);
    *power = 480000; /* the mean over one second differs from the instant power */
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t gpu, nvmlTemperatureSensors_t sensor, unsigned int *celsius) {
    (void)sensor;
    ALIVE(gpu);
    *celsius = 61;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t gpu, nvmlMemory_v2_t *memory) {
    ALIVE(gpu);
    if (memory->version != nvmlMemory_v2) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    memory->total = (gpu->slice >= 0 ? 16384ull : 143771ull) << 20;
    memory->used = (gpu->slice >= 0 ? 100ull + (unsigned)gpu->slice : 4000ull + gpu->index) << 20;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t gpu, unsigned long long *energy_mj) {
    long after = option("backwards_after", -1);
    ALIVE(gpu);
    /* 500 W: half a mJ per us */
    *energy_mj = (now_ns() - start_ns) / 2000 + (after >= 0 && energy_reads >= after ? 0 : 1000000000ull);
    energy_reads++;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t gpu, nvmlPcieUtilCounter_t counter, unsigned int *value) {
    struct timespec pause = {0, 20000000};
    (void)gpu, (void)counter, (void)value;
    slow_calls++;
    nanosleep(&pause, NULL);
    return NVML_SUCCESS;
}

static void set_field(nvmlFieldValue_t *field) {
    unsigned long long elapsed = now_ns() - start_ns;
    int throttled = option("throttled", 0) != 0;
    field->nvmlReturn = NVML_SUCCESS;
    field->valueType = NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
    field->value.ullVal = 0;
    if ((long)field->fieldId == option("no_field", -1) || (long)field->fieldId == option("no_field2", -1)) {
        field->nvmlReturn = NVML_ERROR_NOT_SUPPORTED;
        return;
    }
    switch (field->fieldId) {
    case NVML_FI_DEV_POWER_INSTANT:
        field->valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
        field->value.uiVal = 500000;
        break;
    case NVML_FI_DEV_MEMORY_TEMP:
        field->valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
        field->value.uiVal = 72;
        break;
    case NVML_FI_DEV_PERF_POLICY_POWER:
    case NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN:
        field->value.ullVal = throttled ? elapsed : 0;
        break;
    case NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN:
        field->value.ullVal = 7000; /* it had been hot before */
        break;
    case NVML_FI_DEV_PERF_POLICY_THERMAL:
        field->value.ullVal = 75;
        break;
    default:
        field->nvmlReturn = NVML_ERROR_INVALID_ARGUMENT;
    }
}

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t gpu, int count, nvmlFieldValue_t *fields) {
    ALIVE(gpu);
    if (gpu->index == 0) field_batches++;
    for (int i = 0; i < count; i++) set_field(&fields[i]);
    return NVML_SUCCESS;
}

#ifndef OLD_DRIVER
nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t gpu, unsigned long long *bits) {
    return reasons(gpu, bits);
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t gpu, unsigned int *count, nvmlProcessInfo_t *infos) {
    long pid = gpu->index == 0 ? option("pid", 0) : 0;
    unsigned int room = *count;
    ALIVE(gpu);
    *count = pid != 0;
    if (pid == 0) return NVML_SUCCESS;
    if (room == 0) return NVML_ERROR_INSUFFICIENT_SIZE;
    memset(infos, 0, sizeof *infos);
    infos[0].pid = (unsigned int)pid;
    infos[0].usedGpuMemory = 512ull << 20;
    infos[0].gpuInstanceId = option("mig", -1) < 0 ? 0xffffffffu : 8;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t gpu, nvmlGpmSupport_t *support) {
    ALIVE(gpu);
    support->isSupportedDevice = (unsigned int)option("gpm", 1);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpmSampleAlloc(nvmlGpmSample_t *sample) {
    *sample = calloc(1, sizeof **sample);
    live_samples++;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpmSampleFree(nvmlGpmSample_t sample) {
    free(sample);
    live_samples--;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t gpu, nvmlGpmSample_t sample) {
    unsigned long long now = now_ns();
    ALIVE(gpu);
    if (gpu->index == 0 && option("mig", -1) >= 0) return NVML_ERROR_NOT_SUPPORTED;
    if (last_sample_ns[gpu->index] != 0) {
        long spacing_us = (long)((now - last_sample_ns[gpu->index]) / 1000);
        if (spacing_us < min_spacing_us) min_spacing_us = spacing_us;
    }
    sample->taken_ns = last_sample_ns[gpu->index] = now;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpmMigSampleGet(nvmlDevice_t gpu, unsigned int instance, nvmlGpmSample_t sample) {
    if (option("mig", -1) < 0 || instance < 7) return NVML_ERROR_INVALID_ARGUMENT;
    sample->taken_ns = last_sample_ns[gpu->index] = now_ns();
    return NVML_SUCCESS;
}

static double gpm_value(unsigned int metric) {
    switch (metric) {
    case NVML_GPM_METRIC_GRAPHICS_UTIL: return 99.4;
    case NVML_GPM_METRIC_SM_UTIL: return 95.9;
    case NVML_GPM_METRIC_SM_OCCUPANCY: return 12.5;
    case NVML_GPM_METRIC_ANY_TENSOR_UTIL: return 93.0;
    case NVML_GPM_METRIC_DRAM_BW_UTIL: return 17.0;
    case NVML_GPM_METRIC_FP32_UTIL: return 4.0;
    case NVML_GPM_METRIC_FP16_UTIL: return 1.0;
    case NVML_GPM_METRIC_PCIE_RX_PER_SEC: return 30.0;
    default: return -1;
    }
}

nvmlReturn_t nvmlGpmMetricsGet(nvmlGpmMetricsGet_t *request) {
    /* as on an H200: too close samples succeed with zeros, and NaN for DRAM */
    int close = request->sample2->taken_ns < request->sample1->taken_ns + 100000000ull;
    double spacing_ms = (double)(request->sample2->taken_ns - request->sample1->taken_ns) / 1e6;
    if (request->version != NVML_GPM_METRICS_GET_VERSION) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (request->sample1->taken_ns == 0) return NVML_ERROR_INVALID_ARGUMENT;
    for (unsigned int i = 0; i < request->numMetrics; i++) {
        nvmlGpmMetric_t *metric = &request->metrics[i];
        long id = (long)metric->metricId;
        metric->nvmlReturn = id == option("gpm_error", -1) ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS;
        metric->value = close ? 0 : gpm_value(metric->metricId);
        /* not a rate but the time that the two samples span, for the tests to see */
        if (!close && id == NVML_GPM_METRIC_PCIE_TX_PER_SEC) metric->value = spacing_ms;
        if (id == option("gpm_nan", -1) || (close && id == NVML_GPM_METRIC_DRAM_BW_UTIL)) metric->value = NAN;
    }
    return NVML_SUCCESS;
}
#endif
