#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "frames.h"

enum { READ_BYTES = 65536 };

volatile int64_t *share_progress(void) {
  void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) die("cannot share memory with children: %s", strerror(errno));
  return page;
}

static int64_t clock_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* When memory runs out, the system shall end the child, not the host or another program. */
static void volunteer_for_oom_killer(void) {
  int descriptor = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (descriptor < 0) return;
  write_all(descriptor, "1000", 4);
  close(descriptor);
}

__attribute__((noreturn)) static void be_child(ChildWork work, const void *context, pid_t parent,
                                               int descriptor, volatile int64_t *progress) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1); /* the parent died before the line above */
  volunteer_for_oom_killer();
  /* A kernel that prints must not write between the frames. */
  int nowhere = open("/dev/null", O_RDWR);
  if (nowhere < 0 || dup2(nowhere, 0) < 0 || dup2(2, 1) < 0) _exit(1);
  work(descriptor, progress, context);
  _exit(0);
}

static bool is_complete(const Buffer *answer) {
  uint32_t json_bytes, blob_bytes;
  return answer->length >= FRAME_HEADER_BYTES &&
         frame_unpack_header(answer->data, &json_bytes, &blob_bytes) &&
         answer->length == FRAME_HEADER_BYTES + (size_t)json_bytes + blob_bytes;
}

/* Reads the child's answer until it is complete or can no longer be. */
static ChildEnd collect(int descriptor, int host, int64_t deadline_ms, Buffer *answer) {
  struct pollfd watched[2] = {{descriptor, POLLIN, 0}, {host, POLLRDHUP, 0}};
  for (;;) {
    int64_t left_ms = deadline_ms - clock_ms();
    if (left_ms <= 0) return CHILD_TIMED_OUT;
    int n_ready = poll(watched, 2, left_ms > 60000 ? 60000 : (int)left_ms);
    if (n_ready < 0 && errno != EINTR) die("cannot watch a child: %s", strerror(errno));
    if (n_ready <= 0) continue;
    if (watched[1].revents) return CHILD_HOST_GONE;
    ssize_t got = read(descriptor, buffer_reserve(answer, READ_BYTES), READ_BYTES);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return CHILD_CRASHED;
    answer->length += (size_t)got;
    if (is_complete(answer)) return CHILD_ANSWERED;
    if (answer->length > FRAME_HEADER_BYTES + (size_t)MAX_JSON_BYTES + MAX_BLOB_BYTES)
      return CHILD_CRASHED;
  }
}

/* Says how a child ended that gave no answer; SIGKILL that we did not send is the system's. */
static ChildEnd describe_end(int status, Buffer *answer) {
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
    buffer_print(answer, "killed from outside, most likely because the board's memory ran out");
    return CHILD_OUT_OF_MEMORY;
  }
  if (WIFSIGNALED(status))
    buffer_print(answer, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
  else
    buffer_print(answer, "exited with status %d and no answer", WEXITSTATUS(status));
  return CHILD_CRASHED;
}

/* Waits for a child that ends by itself, at most until the deadline. */
static bool ends_by_itself(pid_t child, int64_t deadline_ms) {
  siginfo_t info = {0};
  struct timespec pause = {0, 1000000};
  while (!waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) && !info.si_pid) {
    if (clock_ms() >= deadline_ms) return false;
    nanosleep(&pause, NULL);
  }
  return true;
}

static ChildEnd watch(pid_t child, int descriptor, int host, uint64_t timeout_ms, Buffer *answer) {
  int status = 0;
  int64_t deadline_ms = clock_ms() + (int64_t)timeout_ms;
  ChildEnd end = collect(descriptor, host, deadline_ms, answer);
  if (end != CHILD_ANSWERED) answer->length = 0;
  if (end == CHILD_CRASHED && !ends_by_itself(child, deadline_ms)) end = CHILD_TIMED_OUT;
  kill(-child, SIGKILL); /* also what the child has started; its zombie keeps the group's number */
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  if (end == CHILD_TIMED_OUT)
    buffer_print(answer, "killed after %llu ms", (unsigned long long)timeout_ms);
  return end == CHILD_CRASHED ? describe_end(status, answer) : end;
}

ChildEnd run_in_child(ChildWork work, const void *context, uint64_t timeout_ms, int host,
                      volatile int64_t *progress, Buffer *answer) {
  int ends[2];
  pid_t parent = getpid();
  *progress = -1;
  if (pipe2(ends, O_CLOEXEC)) die("cannot open a pipe: %s", strerror(errno));
  pid_t child = fork();
  if (child < 0) {
    close(ends[0]);
    close(ends[1]);
    buffer_print(answer, "cannot start a child: %s", strerror(errno));
    return CHILD_OUT_OF_MEMORY;
  }
  if (child == 0) {
    close(ends[0]);
    be_child(work, context, parent, ends[1], progress);
  }
  setpgid(child, child); /* both sides do it, so that neither has to wait */
  close(ends[1]);
  ChildEnd end = watch(child, ends[0], host, timeout_ms, answer);
  close(ends[0]);
  return end;
}
