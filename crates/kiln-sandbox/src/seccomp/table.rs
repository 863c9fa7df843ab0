//! The system calls that builders may make, by number.
//!
//! What is not listed does not exist for a builder (`ENOSYS`), so that calls which future kernels add are out by
//! themselves. Left out on purpose: loading code into the kernel (`bpf`, modules, `kexec`), what goes round this filter
//! (`io_uring`, `openat2`, whose mode argument is in memory), keyrings, `perf_event_open`, `userfaultfd`, file handles,
//! `kcmp`, moving pages, quotas, clocks, the kernel's log, ports and swap, and the mount calls by descriptor (the classic
//! `mount` is there for those who make a user namespace of their own).
//!
//! The numbers are those of Linux 6.17, in `arch/*/entry/syscalls` and `scripts/syscall.tbl` of its source.

use super::policy::Rule::{self, Allow, Attribute, Ioctl, Mode, OpenMode, Socket, Socketcall};

/// A system call, the rule for it, and its number on each architecture that has it.
pub(super) struct Call {
    /// As in its manual page. The program itself has no use for it.
    #[cfg(test)]
    pub(super) name: &'static str,
    pub(super) rule: Rule,
    pub(super) x86_64: Option<u32>,
    pub(super) i386: Option<u32>,
    pub(super) aarch64: Option<u32>,
    pub(super) arm: Option<u32>,
}

macro_rules! number {
    (-) => {
        None
    };
    ($number:literal) => {
        Some($number)
    };
}

macro_rules! calls {
    ($($name:ident $rule:expr, $x86_64:tt $i386:tt $aarch64:tt $arm:tt;)*) => {
        &[$(Call {
            #[cfg(test)]
            name: stringify!($name),
            rule: $rule,
            x86_64: number!($x86_64),
            i386: number!($i386),
            aarch64: number!($aarch64),
            arm: number!($arm),
        }),*]
    };
}

/// Name, rule, and the numbers on x86_64, i386, aarch64, and arm (EABI).
pub(super) const CALLS: &[Call] = calls! {
    _llseek Allow, - 140 - 140;
    _newselect Allow, - 142 - 142;
    accept Allow, 43 - 202 285;
    accept4 Allow, 288 364 242 366;
    access Allow, 21 33 - 33;
    adjtimex Allow, 159 124 171 124;
    alarm Allow, 37 27 - -;
    arch_prctl Allow, 158 384 - -;
    arm_fadvise64_64 Allow, - - - 270;
    bind Allow, 49 361 200 282;
    breakpoint Allow, - - - 983041;
    brk Allow, 12 45 214 45;
    cacheflush Allow, - - - 983042;
    cachestat Allow, 451 451 451 451;
    capget Allow, 125 184 90 184;
    capset Allow, 126 185 91 185;
    chdir Allow, 80 12 49 12;
    chmod Mode(1), 90 15 - 15;
    chown Allow, 92 182 - 182;
    chown32 Allow, - 212 - 212;
    chroot Allow, 161 61 51 61;
    clock_adjtime Allow, 305 343 266 372;
    clock_adjtime64 Allow, - 405 - 405;
    clock_getres Allow, 229 266 114 264;
    clock_getres_time64 Allow, - 406 - 406;
    clock_gettime Allow, 228 265 113 263;
    clock_gettime64 Allow, - 403 - 403;
    clock_nanosleep Allow, 230 267 115 265;
    clock_nanosleep_time64 Allow, - 407 - 407;
    clone Allow, 56 120 220 120;
    clone3 Allow, 435 435 435 435;
    close Allow, 3 6 57 6;
    close_range Allow, 436 436 436 436;
    connect Allow, 42 362 203 283;
    copy_file_range Allow, 326 377 285 391;
    creat Mode(1), 85 8 - 8;
    dup Allow, 32 41 23 41;
    dup2 Allow, 33 63 - 63;
    dup3 Allow, 292 330 24 358;
    epoll_create Allow, 213 254 - 250;
    epoll_create1 Allow, 291 329 20 357;
    epoll_ctl Allow, 233 255 21 251;
    epoll_pwait Allow, 281 319 22 346;
    epoll_pwait2 Allow, 441 441 441 441;
    epoll_wait Allow, 232 256 - 252;
    eventfd Allow, 284 323 - 351;
    eventfd2 Allow, 290 328 19 356;
    execve Allow, 59 11 221 11;
    execveat Allow, 322 358 281 387;
    exit Allow, 60 1 93 1;
    exit_group Allow, 231 252 94 248;
    faccessat Allow, 269 307 48 334;
    faccessat2 Allow, 439 439 439 439;
    fadvise64 Allow, 221 250 223 -;
    fadvise64_64 Allow, - 272 - -;
    fallocate Allow, 285 324 47 352;
    fchdir Allow, 81 133 50 133;
    fchmod Mode(1), 91 94 52 94;
    fchmodat Mode(2), 268 306 53 333;
    fchmodat2 Mode(2), 452 452 452 452;
    fchown Allow, 93 95 55 95;
    fchown32 Allow, - 207 - 207;
    fchownat Allow, 260 298 54 325;
    fcntl Allow, 72 55 25 55;
    fcntl64 Allow, - 221 - 221;
    fdatasync Allow, 75 148 83 148;
    fgetxattr Attribute, 193 231 10 231;
    flistxattr Attribute, 196 234 13 234;
    flock Allow, 73 143 32 143;
    fork Allow, 57 2 - 2;
    fremovexattr Attribute, 199 237 16 237;
    fsetxattr Attribute, 190 228 7 228;
    fstat Allow, 5 108 80 108;
    fstat64 Allow, - 197 - 197;
    fstatat64 Allow, - 300 - 327;
    fstatfs Allow, 138 100 44 100;
    fstatfs64 Allow, - 269 - 267;
    fsync Allow, 74 118 82 118;
    ftruncate Allow, 77 93 46 93;
    ftruncate64 Allow, - 194 - 194;
    futex Allow, 202 240 98 240;
    futex_requeue Allow, 456 456 456 456;
    futex_time64 Allow, - 422 - 422;
    futex_wait Allow, 455 455 455 455;
    futex_waitv Allow, 449 449 449 449;
    futex_wake Allow, 454 454 454 454;
    futimesat Allow, 261 299 - 326;
    get_mempolicy Allow, 239 275 236 320;
    get_robust_list Allow, 274 312 100 339;
    get_thread_area Allow, 211 244 - -;
    get_tls Allow, - - - 983046;
    getcpu Allow, 309 318 168 345;
    getcwd Allow, 79 183 17 183;
    getdents Allow, 78 141 - 141;
    getdents64 Allow, 217 220 61 217;
    getegid Allow, 108 50 177 50;
    getegid32 Allow, - 202 - 202;
    geteuid Allow, 107 49 175 49;
    geteuid32 Allow, - 201 - 201;
    getgid Allow, 104 47 176 47;
    getgid32 Allow, - 200 - 200;
    getgroups Allow, 115 80 158 80;
    getgroups32 Allow, - 205 - 205;
    getitimer Allow, 36 105 102 105;
    getpeername Allow, 52 368 205 287;
    getpgid Allow, 121 132 155 132;
    getpgrp Allow, 111 65 - 65;
    getpid Allow, 39 20 172 20;
    getppid Allow, 110 64 173 64;
    getpriority Allow, 140 96 141 96;
    getrandom Allow, 318 355 278 384;
    getresgid Allow, 120 171 150 171;
    getresgid32 Allow, - 211 - 211;
    getresuid Allow, 118 165 148 165;
    getresuid32 Allow, - 209 - 209;
    getrlimit Allow, 97 76 163 -;
    getrusage Allow, 98 77 165 77;
    getsid Allow, 124 147 156 147;
    getsockname Allow, 51 367 204 286;
    getsockopt Allow, 55 365 209 295;
    gettid Allow, 186 224 178 224;
    gettimeofday Allow, 96 78 169 78;
    getuid Allow, 102 24 174 24;
    getuid32 Allow, - 199 - 199;
    getxattr Attribute, 191 229 8 229;
    getxattrat Attribute, 464 464 464 464;
    inotify_add_watch Allow, 254 292 27 317;
    inotify_init Allow, 253 291 - 316;
    inotify_init1 Allow, 294 332 26 360;
    inotify_rm_watch Allow, 255 293 28 318;
    io_cancel Allow, 210 249 3 247;
    io_destroy Allow, 207 246 1 244;
    io_getevents Allow, 208 247 4 245;
    io_pgetevents Allow, 333 385 292 399;
    io_pgetevents_time64 Allow, - 416 - 416;
    io_setup Allow, 206 245 0 243;
    io_submit Allow, 209 248 2 246;
    ioctl Ioctl, 16 54 29 54;
    ioprio_get Allow, 252 290 31 315;
    ioprio_set Allow, 251 289 30 314;
    ipc Allow, - 117 - -;
    kill Allow, 62 37 129 37;
    landlock_add_rule Allow, 445 445 445 445;
    landlock_create_ruleset Allow, 444 444 444 444;
    landlock_restrict_self Allow, 446 446 446 446;
    lchown Allow, 94 16 - 16;
    lchown32 Allow, - 198 - 198;
    lgetxattr Attribute, 192 230 9 230;
    link Allow, 86 9 - 9;
    linkat Allow, 265 303 37 330;
    listen Allow, 50 363 201 284;
    listxattr Attribute, 194 232 11 232;
    listxattrat Attribute, 465 465 465 465;
    llistxattr Attribute, 195 233 12 233;
    lremovexattr Attribute, 198 236 15 236;
    lseek Allow, 8 19 62 19;
    lsetxattr Attribute, 189 227 6 227;
    lstat Allow, 6 107 - 107;
    lstat64 Allow, - 196 - 196;
    madvise Allow, 28 219 233 220;
    map_shadow_stack Allow, 453 453 453 453;
    mbind Allow, 237 274 235 319;
    membarrier Allow, 324 375 283 389;
    memfd_create Allow, 319 356 279 385;
    memfd_secret Allow, 447 447 447 -;
    mincore Allow, 27 218 232 219;
    mkdir Allow, 83 39 - 39;
    mkdirat Allow, 258 296 34 323;
    mknod Mode(1), 133 14 - 14;
    mknodat Mode(2), 259 297 33 324;
    mlock Allow, 149 150 228 150;
    mlock2 Allow, 325 376 284 390;
    mlockall Allow, 151 152 230 152;
    mmap Allow, 9 90 222 -;
    mmap2 Allow, - 192 - 192;
    modify_ldt Allow, 154 123 - -;
    mount Allow, 165 21 40 21;
    mprotect Allow, 10 125 226 125;
    mq_getsetattr Allow, 245 282 185 279;
    mq_notify Allow, 244 281 184 278;
    mq_open Allow, 240 277 180 274;
    mq_timedreceive Allow, 243 280 183 277;
    mq_timedreceive_time64 Allow, - 419 - 419;
    mq_timedsend Allow, 242 279 182 276;
    mq_timedsend_time64 Allow, - 418 - 418;
    mq_unlink Allow, 241 278 181 275;
    mremap Allow, 25 163 216 163;
    mseal Allow, 462 462 462 462;
    msgctl Allow, 71 402 187 304;
    msgget Allow, 68 399 186 303;
    msgrcv Allow, 70 401 188 302;
    msgsnd Allow, 69 400 189 301;
    msync Allow, 26 144 227 144;
    munlock Allow, 150 151 229 151;
    munlockall Allow, 152 153 231 153;
    munmap Allow, 11 91 215 91;
    nanosleep Allow, 35 162 101 162;
    newfstatat Allow, 262 - 79 -;
    nice Allow, - 34 - 34;
    oldfstat Allow, - 28 - -;
    oldlstat Allow, - 84 - -;
    oldolduname Allow, - 59 - -;
    oldstat Allow, - 18 - -;
    olduname Allow, - 109 - -;
    open OpenMode(1), 2 5 - 5;
    openat OpenMode(2), 257 295 56 322;
    pause Allow, 34 29 - 29;
    personality Allow, 135 136 92 136;
    pidfd_getfd Allow, 438 438 438 438;
    pidfd_open Allow, 434 434 434 434;
    pidfd_send_signal Allow, 424 424 424 424;
    pipe Allow, 22 42 - 42;
    pipe2 Allow, 293 331 59 359;
    pivot_root Allow, 155 217 41 218;
    pkey_alloc Allow, 330 381 289 395;
    pkey_free Allow, 331 382 290 396;
    pkey_mprotect Allow, 329 380 288 394;
    poll Allow, 7 168 - 168;
    ppoll Allow, 271 309 73 336;
    ppoll_time64 Allow, - 414 - 414;
    prctl Allow, 157 172 167 172;
    pread64 Allow, 17 180 67 180;
    preadv Allow, 295 333 69 361;
    preadv2 Allow, 327 378 286 392;
    prlimit64 Allow, 302 340 261 369;
    process_madvise Allow, 440 440 440 440;
    process_mrelease Allow, 448 448 448 448;
    process_vm_readv Allow, 310 347 270 376;
    process_vm_writev Allow, 311 348 271 377;
    pselect6 Allow, 270 308 72 335;
    pselect6_time64 Allow, - 413 - 413;
    ptrace Allow, 101 26 117 26;
    pwrite64 Allow, 18 181 68 181;
    pwritev Allow, 296 334 70 362;
    pwritev2 Allow, 328 379 287 393;
    read Allow, 0 3 63 3;
    readahead Allow, 187 225 213 225;
    readdir Allow, - 89 - -;
    readlink Allow, 89 85 - 85;
    readlinkat Allow, 267 305 78 332;
    readv Allow, 19 145 65 145;
    recv Allow, - - - 291;
    recvfrom Allow, 45 371 207 292;
    recvmmsg Allow, 299 337 243 365;
    recvmmsg_time64 Allow, - 417 - 417;
    recvmsg Allow, 47 372 212 297;
    remap_file_pages Allow, 216 257 234 253;
    removexattr Attribute, 197 235 14 235;
    removexattrat Attribute, 466 466 466 466;
    rename Allow, 82 38 - 38;
    renameat Allow, 264 302 38 329;
    renameat2 Allow, 316 353 276 382;
    restart_syscall Allow, 219 0 128 0;
    rmdir Allow, 84 40 - 40;
    rseq Allow, 334 386 293 398;
    rt_sigaction Allow, 13 174 134 174;
    rt_sigpending Allow, 127 176 136 176;
    rt_sigprocmask Allow, 14 175 135 175;
    rt_sigqueueinfo Allow, 129 178 138 178;
    rt_sigreturn Allow, 15 173 139 173;
    rt_sigsuspend Allow, 130 179 133 179;
    rt_sigtimedwait Allow, 128 177 137 177;
    rt_sigtimedwait_time64 Allow, - 421 - 421;
    rt_tgsigqueueinfo Allow, 297 335 240 363;
    sched_get_priority_max Allow, 146 159 125 159;
    sched_get_priority_min Allow, 147 160 126 160;
    sched_getaffinity Allow, 204 242 123 242;
    sched_getattr Allow, 315 352 275 381;
    sched_getparam Allow, 143 155 121 155;
    sched_getscheduler Allow, 145 157 120 157;
    sched_rr_get_interval Allow, 148 161 127 161;
    sched_rr_get_interval_time64 Allow, - 423 - 423;
    sched_setaffinity Allow, 203 241 122 241;
    sched_setattr Allow, 314 351 274 380;
    sched_setparam Allow, 142 154 118 154;
    sched_setscheduler Allow, 144 156 119 156;
    sched_yield Allow, 24 158 124 158;
    seccomp Allow, 317 354 277 383;
    select Allow, 23 82 - -;
    semctl Allow, 66 394 191 300;
    semget Allow, 64 393 190 299;
    semop Allow, 65 - 193 298;
    semtimedop Allow, 220 - 192 312;
    semtimedop_time64 Allow, - 420 - 420;
    send Allow, - - - 289;
    sendfile Allow, 40 187 71 187;
    sendfile64 Allow, - 239 - 239;
    sendmmsg Allow, 307 345 269 374;
    sendmsg Allow, 46 370 211 296;
    sendto Allow, 44 369 206 290;
    set_mempolicy Allow, 238 276 237 321;
    set_mempolicy_home_node Allow, 450 450 450 450;
    set_robust_list Allow, 273 311 99 338;
    set_thread_area Allow, 205 243 - -;
    set_tid_address Allow, 218 258 96 256;
    set_tls Allow, - - - 983045;
    setdomainname Allow, 171 121 162 121;
    setfsgid Allow, 123 139 152 139;
    setfsgid32 Allow, - 216 - 216;
    setfsuid Allow, 122 138 151 138;
    setfsuid32 Allow, - 215 - 215;
    setgid Allow, 106 46 144 46;
    setgid32 Allow, - 214 - 214;
    setgroups Allow, 116 81 159 81;
    setgroups32 Allow, - 206 - 206;
    sethostname Allow, 170 74 161 74;
    setitimer Allow, 38 104 103 104;
    setns Allow, 308 346 268 375;
    setpgid Allow, 109 57 154 57;
    setpriority Allow, 141 97 140 97;
    setregid Allow, 114 71 143 71;
    setregid32 Allow, - 204 - 204;
    setresgid Allow, 119 170 149 170;
    setresgid32 Allow, - 210 - 210;
    setresuid Allow, 117 164 147 164;
    setresuid32 Allow, - 208 - 208;
    setreuid Allow, 113 70 145 70;
    setreuid32 Allow, - 203 - 203;
    setrlimit Allow, 160 75 164 75;
    setsid Allow, 112 66 157 66;
    setsockopt Allow, 54 366 208 294;
    setuid Allow, 105 23 146 23;
    setuid32 Allow, - 213 - 213;
    setxattr Attribute, 188 226 5 226;
    setxattrat Attribute, 463 463 463 463;
    sgetmask Allow, - 68 - -;
    shmat Allow, 30 397 196 305;
    shmctl Allow, 31 396 195 308;
    shmdt Allow, 67 398 197 306;
    shmget Allow, 29 395 194 307;
    shutdown Allow, 48 373 210 293;
    sigaction Allow, - 67 - 67;
    sigaltstack Allow, 131 186 132 186;
    signal Allow, - 48 - -;
    signalfd Allow, 282 321 - 349;
    signalfd4 Allow, 289 327 74 355;
    sigpending Allow, - 73 - 73;
    sigprocmask Allow, - 126 - 126;
    sigreturn Allow, - 119 - 119;
    sigsuspend Allow, - 72 - 72;
    socket Socket, 41 359 198 281;
    socketcall Socketcall, - 102 - -;
    socketpair Socket, 53 360 199 288;
    splice Allow, 275 313 76 340;
    ssetmask Allow, - 69 - -;
    stat Allow, 4 106 - 106;
    stat64 Allow, - 195 - 195;
    statfs Allow, 137 99 43 99;
    statfs64 Allow, - 268 - 266;
    statx Allow, 332 383 291 397;
    symlink Allow, 88 83 - 83;
    symlinkat Allow, 266 304 36 331;
    sync Allow, 162 36 81 36;
    sync_file_range Allow, 277 314 84 -;
    sync_file_range2 Allow, - - - 341;
    syncfs Allow, 306 344 267 373;
    sysinfo Allow, 99 116 179 116;
    tee Allow, 276 315 77 342;
    tgkill Allow, 234 270 131 268;
    time Allow, 201 13 - -;
    timer_create Allow, 222 259 107 257;
    timer_delete Allow, 226 263 111 261;
    timer_getoverrun Allow, 225 262 109 260;
    timer_gettime Allow, 224 261 108 259;
    timer_gettime64 Allow, - 408 - 408;
    timer_settime Allow, 223 260 110 258;
    timer_settime64 Allow, - 409 - 409;
    timerfd_create Allow, 283 322 85 350;
    timerfd_gettime Allow, 287 326 87 354;
    timerfd_gettime64 Allow, - 410 - 410;
    timerfd_settime Allow, 286 325 86 353;
    timerfd_settime64 Allow, - 411 - 411;
    times Allow, 100 43 153 43;
    tkill Allow, 200 238 130 238;
    truncate Allow, 76 92 45 92;
    truncate64 Allow, - 193 - 193;
    ugetrlimit Allow, - 191 - 191;
    umask Allow, 95 60 166 60;
    umount Allow, - 22 - -;
    umount2 Allow, 166 52 39 52;
    uname Allow, 63 122 160 122;
    unlink Allow, 87 10 - 10;
    unlinkat Allow, 263 301 35 328;
    unshare Allow, 272 310 97 337;
    utime Allow, 132 30 - -;
    utimensat Allow, 280 320 88 348;
    utimensat_time64 Allow, - 412 - 412;
    utimes Allow, 235 271 - 269;
    vfork Allow, 58 190 - 190;
    vmsplice Allow, 278 316 75 343;
    wait4 Allow, 61 114 260 114;
    waitid Allow, 247 284 95 280;
    waitpid Allow, - 7 - -;
    write Allow, 1 4 64 4;
    writev Allow, 20 146 66 146;
};
