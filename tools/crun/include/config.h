// What `configure` of crun 1.21 finds with glibc 2.36, libcap, libseccomp and wasmtime; nothing of systemd, CRIU and the other
// handlers.
#define HAVE_ATOMIC_INT 1
#define HAVE_CAP 1
#define HAVE_COPY_FILE_RANGE 1
#define HAVE_DLFCN_H 1
#define HAVE_DLOPEN 1
#define HAVE_EACCESS 1
#define HAVE_EBPF 1
#define HAVE_ERROR_H 1
#define HAVE_FGETPWENT_R 1
#define HAVE_FGETXATTR 1
#define HAVE_FSCONFIG_CMD_CREATE_SYS_MOUNT_H 1
#define HAVE_HSEARCH_R 1
#define HAVE_INTTYPES_H 1
#define HAVE_LINUX_BPF_H 1
#define HAVE_LINUX_IOPRIO_H 1
#define HAVE_LINUX_OPENAT2_H 1
#define HAVE_MEMFD_CREATE 1
#define HAVE_SECCOMP 1
#define HAVE_SECCOMP_GET_NOTIF_SIZES 1
#define HAVE_SECCOMP_H 1
#define HAVE_STATX 1
#define HAVE_STDATOMIC_H 1
#define HAVE_STDINT_H 1
#define HAVE_STDLIB_H 1
#define HAVE_STRINGS_H 1
#define HAVE_STRING_H 1
#define HAVE_SYS_CAPABILITY_H 1
#define HAVE_SYS_STAT_H 1
#define HAVE_SYS_TYPES_H 1
#define HAVE_UNISTD_H 1
#define HAVE_WASMTIME 1
#define HAVE_WASMTIME_H 1
#define HAVE_YAJL 1
#define LIBCRUN_PUBLIC
#define SECCOMP_ARCH_RESOLVE_NAME 1
#define STDC_HEADERS 1
#define PACKAGE "crun"
#define PACKAGE_NAME "crun"
#define PACKAGE_BUGREPORT ""
#define PACKAGE_STRING "crun " VERSION
#define PACKAGE_VERSION VERSION
