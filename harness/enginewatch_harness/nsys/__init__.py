"""What a profiler sees of the GPU: Nsight Systems around a process of its own, or CUPTI inside this one."""
