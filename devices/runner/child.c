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
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frames.h"
#include "processor.h"

enum { READ_BYTES = 65536, LITTLE_BYTES = 32 << 20 };

volatile ChildNotes *share_notes(void) {
  void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) die("cannot share memory with children: %s", strerror(errno));
  return page;
}

/* When memory runs out, the system shall end the child, not the host or another program. */
static void volunteer_for_oom_killer(void) {
  int descriptor = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (descriptor < 0) return;
  write_all(descriptor, "1000", 4);
  close(descriptor);
}

__attribute__((noreturn)) static void be_child(ChildWork work, const void *context, pid_t parent,
                                               int descriptor, volatile ChildNotes *notes) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1); /* the parent died before the line above */
  volunteer_for_oom_killer();
  /* A kernel that prints must not write between the frames. */
  int nowhere = open("/dev/null", O_RDWR);
  if (nowhere < 0 || dup2(nowhere, 0) < 0 || dup2(2, 1) < 0) _exit(1);
  work(descriptor, notes, context);
  _exit(0);
}

static bool is_complete(const Buffer *answer) {
  uint32_t json_bytes, blob_bytes;
  return answer->length >= FRAME_HEADER_BYTES &&
         frame_unpack_header(answer->data, &json_bytes, &blob_bytes) &&
         answer->length == FRAME_HEADER_BYTES + (size_t)json_bytes + blob_bytes;
}

/* Reads the child's answer until it is complete or can no longer be. */
static ChildEnd collect(int descriptor, Host *host, int64_t deadline_ms, Buffer *answer) {
  for (;;) {
    struct pollfd watched[2] = {{descriptor, POLLIN, 0}, {host->in, host_events(host), 0}};
    int64_t left_ms = deadline_ms - clock_ms();
    if (left_ms <= 0) return CHILD_TIMED_OUT;
    int patience_ms = host_patience_ms(host);
    int n_ready = poll(watched, 2, left_ms < patience_ms ? (int)left_ms : patience_ms);
    if (n_ready < 0 && errno != EINTR) die("cannot watch a child: %s", strerror(errno));
    if (n_ready < 0) continue;
    if (!host_listen(host, watched[1].revents)) return CHILD_HOST_GONE;
    if (!watched[0].revents) continue;
    ssize_t got = read(descriptor, buffer_reserve(answer, READ_BYTES), READ_BYTES);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return CHILD_CRASHED;
    answer->length += (size_t)got;
    if (is_complete(answer)) return CHILD_ANSWERED;
    if (answer->length > FRAME_HEADER_BYTES + (size_t)MAX_JSON_BYTES + MAX_BLOB_BYTES)
      return CHILD_CRASHED;
  }
}

/* Whether a child that crashed had little left of the memory that it may touch: kernels seldom look
 * at what an allocation returns. */
static bool is_at_limit(const volatile ChildNotes *notes, const struct rusage *usage) {
  uint64_t touched_bytes = (uint64_t)usage->ru_maxrss * 1024;
  return notes->memory_bytes && touched_bytes + LITTLE_BYTES > notes->memory_bytes;
}

/* Says how a child ended that gave no answer; SIGKILL that we did not send is the system's. */
static ChildEnd describe_end(int status, bool is_out_of_memory, Buffer *answer) {
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
    buffer_print(answer, "killed from outside, most likely because the board's memory ran out");
    return CHILD_OUT_OF_MEMORY;
  }
  if (WIFSIGNALED(status))
    buffer_print(answer, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
  else
    buffer_print(answer, "exited with status %d and no answer", WEXITSTATUS(status));
  if (is_out_of_memory) buffer_print(answer, " with all memory taken that it may have");
  return is_out_of_memory ? CHILD_OUT_OF_MEMORY : CHILD_CRASHED;
}

/* Waits for a child without an answer, which ends by itself or hangs. */
static ChildEnd await_end(pid_t child, Host *host, int64_t deadline_ms) {
  siginfo_t info = {0};
  while (!waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) && !info.si_pid) {
    struct pollfd watched = {host->in, host_events(host), 0};
    if (clock_ms() >= deadline_ms) return CHILD_TIMED_OUT;
    if (poll(&watched, 1, 1) < 0) continue;
    if (!host_listen(host, watched.revents)) return CHILD_HOST_GONE;
  }
  return CHILD_CRASHED;
}

static ChildEnd watch(pid_t child, int descriptor, Host *host, uint64_t timeout_ms,
                      volatile ChildNotes *notes, Buffer *answer) {
  int status = 0;
  struct rusage usage = {0};
  int64_t deadline_ms = clock_ms() + (int64_t)timeout_ms;
  ChildEnd end = collect(descriptor, host, deadline_ms, answer);
  if (end != CHILD_ANSWERED) answer->length = 0;
  if (end == CHILD_CRASHED) end = await_end(child, host, deadline_ms);
  kill(-child, SIGKILL); /* also what the child has started; its zombie keeps the group's number */
  while (wait4(child, &status, 0, &usage) < 0 && errno == EINTR) continue;
  if (end == CHILD_TIMED_OUT)
    buffer_print(answer, "killed after %llu ms", (unsigned long long)timeout_ms);
  return end == CHILD_CRASHED ? describe_end(status, is_at_limit(notes, &usage), answer) : end;
}

ChildEnd run_in_child(ChildWork work, const void *context, uint64_t timeout_ms, Host *host,
                      volatile ChildNotes *notes, Buffer *answer) {
  int ends[2];
  pid_t parent = getpid();
  notes->call = -1;
  notes->memory_bytes = 0;
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
    be_child(work, context, parent, ends[1], notes);
  }
  setpgid(child, child); /* both sides do it, so that neither has to wait */
  close(ends[1]);
  ChildEnd end = watch(child, ends[0], host, timeout_ms, notes, answer);
  close(ends[0]);
  return end;
}
