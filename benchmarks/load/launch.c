/* Start a client from a small process and tell what it and all its descendants used.
 *
 *     launch OUT PROGRAM ARGUMENT...
 *
 * A child's peak memory begins with that of the process that forked it, so a runner with numpy loaded cannot
 * measure a client of 3 MB; this can. Orphans of the client are adopted here, ended with it and counted. OUT
 * receives one line: start (CLOCK_MONOTONIC ns), seconds of CPU, peak KiB of the largest process, exit status.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "launch OUT PROGRAM ARGUMENT...\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    struct timespec began;
    clock_gettime(CLOCK_MONOTONIC, &began);
    pid_t client = fork();
    if (client < 0) return 1;
    if (!client) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execvp(argv[2], argv + 2);
        perror(argv[2]);
        _exit(127);
    }
    int status = 0, ended;
    while (waitpid(client, &ended, 0) < 0 && errno == EINTR) {}
    status = WIFEXITED(ended) ? WEXITSTATUS(ended) : 128 + WTERMSIG(ended);
    /* What is left of the client and was not waited for: ended, then counted. */
    signal(SIGTERM, SIG_IGN);
    char children[64];
    snprintf(children, sizeof children, "/proc/%d/task/%d/children", getpid(), getpid());
    for (;;) {
        FILE *file = fopen(children, "r");
        int orphan, found = 0;
        while (file && fscanf(file, "%d", &orphan) == 1) found += !kill(orphan, SIGKILL);
        if (file) fclose(file);
        if (!found || waitpid(-1, NULL, 0) < 0) break;
    }
    struct rusage used;
    getrusage(RUSAGE_CHILDREN, &used);
    FILE *out = fopen(argv[1], "w");
    if (!out) return 1;
    fprintf(out, "%lld %.6f %ld %d\n", began.tv_sec * 1000000000LL + began.tv_nsec,
            used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6,
            used.ru_maxrss, status);
    return fclose(out) ? 1 : status;
}
