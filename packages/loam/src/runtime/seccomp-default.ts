/*
 * The system calls that a container may make by default, as data. Source: Docker's default profile, profiles/seccomp/default.json
 * of moby 20.10.24 as Debian's golang-github-docker-docker-dev ships it. Copyright 2012-2018 Docker, Inc.; Apache License 2.0, as LICENSE.
 * Changed by Loam:
 *   refused   io_uring_* (an interface of its own that no filter sees into), and sockets of AF_ALG and AF_VSOCK: the kernel's
 *             cryptography, where a write to other processes' page cache was found (CVE-2026-31431), and the hypervisor; vmsplice,
 *             as in podman
 *   allowed   calls of Linux 5.18 to 6.13 that are equivalent to allowed ones (cachestat, fchmodat2, futex_*, *xattrat, listmount, mseal, …),
 *             and protection keys
 *   by right  CAP_BPF and CAP_PERFMON allow their calls; the kernel's LSM calls need CAP_SYS_ADMIN
 *   left out  MIPS, on which Loam does not run; riscv64 and loong64 are in its place
 */
import type { SeccompProfile, SeccompRule } from './seccomp.ts'

const ALLOWED = words(`
  accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime clock_adjtime64
  clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect
  copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
  epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate
  fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork
  fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64
  futex_wait futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid
  getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid
  getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid
  gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl
  io_destroy io_getevents io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule
  landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr listxattrat
  llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret
  mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
  mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock
  munlockall munmap nanosleep newfstatat _newselect open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc
  pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6
  pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64
  recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction
  rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
  rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min
  sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
  sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64
  sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid
  setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list
  setsid setsockopt set_thread_area set_tid_address setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown
  sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx
  symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime
  timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
  timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat
  utimensat_time64 utimes vfork wait4 waitid waitpid write writev
`)

/**
 * Address families except AF_ALG (38) and AF_VSOCK (40), as a mask and the value to compare with. The kernel takes an int, and a filter
 * sees the whole register: it compares only the lower half, or 2^32 + 38 would be another number to the filter, and AF_ALG to the kernel.
 */
const FAMILIES: readonly (readonly [mask: number, value: number])[] = [
  [0xff_ff_ff_e0, 0],
  [0xff_ff_ff_fc, 32],
  [0xff_ff_ff_fe, 36],
  [0xff_ff_ff_ff, 39],
  [0xff_ff_ff_ff, 41],
  [0xff_ff_ff_fe, 42],
  [0xff_ff_ff_fc, 44],
]
const [EPERM, ENOSYS] = [1, 38]
/** PER_LINUX, PER_LINUX32, UNAME26, both, and the query of the current one (sys/personality.h). */
const PERSONALITIES: readonly number[] = [0x0, 0x8, 0x2_00_00, 0x2_00_08, 0xff_ff_ff_ff]
/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET (sched.h). */
const CLONE_NAMESPACES = 0x7e_02_00_00
const S390: readonly string[] = ['s390', 's390x']

export const DEFAULT_SECCOMP: SeccompProfile = {
  defaultAction: 'SCMP_ACT_ERRNO',
  defaultErrnoRet: EPERM,
  archMap: [
    { architecture: 'SCMP_ARCH_X86_64', subArchitectures: ['SCMP_ARCH_X86', 'SCMP_ARCH_X32'] },
    { architecture: 'SCMP_ARCH_AARCH64', subArchitectures: ['SCMP_ARCH_ARM'] },
    { architecture: 'SCMP_ARCH_S390X', subArchitectures: ['SCMP_ARCH_S390'] },
    { architecture: 'SCMP_ARCH_RISCV64', subArchitectures: [] },
    { architecture: 'SCMP_ARCH_LOONGARCH64', subArchitectures: [] },
  ],
  syscalls: [
    allow(ALLOWED),
    ...FAMILIES.map(([value, valueTwo]) =>
      allow(['socket'], { args: [{ index: 0, value, valueTwo, op: 'SCMP_CMP_MASKED_EQ' }] }),
    ),
    ...PERSONALITIES.map((value) =>
      allow(['personality'], { args: [{ index: 0, value, op: 'SCMP_CMP_EQ' }] }),
    ),
    allow(['ptrace'], { includes: { minKernel: '4.8' } }),
    ofArchitectures('ppc64le', 'sync_file_range2 swapcontext'),
    ofArchitectures(
      'arm arm64',
      'arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls',
    ),
    ofArchitectures('amd64 x32', 'arch_prctl'),
    ofArchitectures('amd64 x32 x86', 'modify_ldt'),
    ofArchitectures('s390 s390x', 's390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr'),
    ofArchitectures('riscv64', 'riscv_flush_icache riscv_hwprobe'),
    withCapability(
      'CAP_SYS_ADMIN',
      `bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules
      lsm_set_self_attr mount mount_setattr move_mount name_to_handle_at open_tree perf_event_open quotactl quotactl_fd
      setdomainname sethostname setns syslog umount umount2 unshare`,
    ),
    withCapability('CAP_BPF', 'bpf'),
    withCapability('CAP_DAC_READ_SEARCH', 'open_by_handle_at'),
    withCapability('CAP_PERFMON', 'perf_event_open'),
    withCapability('CAP_SYS_BOOT', 'reboot'),
    withCapability('CAP_SYS_CHROOT', 'chroot'),
    withCapability('CAP_SYS_MODULE', 'delete_module init_module finit_module'),
    withCapability('CAP_SYS_NICE', 'get_mempolicy mbind set_mempolicy set_mempolicy_home_node'),
    withCapability('CAP_SYS_PACCT', 'acct'),
    withCapability(
      'CAP_SYS_PTRACE',
      'kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace',
    ),
    withCapability('CAP_SYS_RAWIO', 'iopl ioperm'),
    withCapability('CAP_SYS_TIME', 'settimeofday stime clock_settime clock_settime64'),
    withCapability('CAP_SYS_TTY_CONFIG', 'vhangup'),
    withCapability('CAP_SYSLOG', 'syslog'),
    // A process, but no namespaces. On s390 the flags are the second argument.
    ...[
      { index: 0, includes: {}, excludes: { caps: ['CAP_SYS_ADMIN'], arches: S390 } },
      { index: 1, includes: { arches: S390 }, excludes: { caps: ['CAP_SYS_ADMIN'] } },
    ].map(({ index, includes, excludes }) =>
      allow(['clone'], {
        args: [{ index, value: CLONE_NAMESPACES, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }],
        includes,
        excludes,
      }),
    ),
    // Its flags are in memory, where filters cannot see them; libraries then fall back to clone.
    {
      names: ['clone3'],
      action: 'SCMP_ACT_ERRNO',
      errnoRet: ENOSYS,
      excludes: { caps: ['CAP_SYS_ADMIN'] },
    },
  ],
}

function words(text: string): string[] {
  return text.trim().split(/\s+/)
}

function allow(names: readonly string[], more: Partial<SeccompRule> = {}): SeccompRule {
  return { names, action: 'SCMP_ACT_ALLOW', ...more }
}

function withCapability(capability: string, names: string): SeccompRule {
  return allow(words(names), { includes: { caps: [capability] } })
}

function ofArchitectures(arches: string, names: string): SeccompRule {
  return allow(words(names), { includes: { arches: words(arches) } })
}
