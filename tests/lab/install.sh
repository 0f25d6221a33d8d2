#!/bin/sh
# Brings what the lab's boards are made of: servers, busybox, qemu, and busybox for other processors.
# Servers are installed without being started. Foreign packages are unpacked into .lab alone.
set -eu
cd "$(dirname "$0")/../.."
lab=$PWD/.lab
missing=
for pair in sshd:openssh-server dropbear:dropbear-bin busybox:busybox-static \
  qemu-aarch64-static:qemu-user-static ip:iproute2 ssh-keygen:openssh-client openssl:openssl; do
  PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
done
[ "$(id -u)" = 0 ] || { echo "the lab needs root: it makes network namespaces and mounts"; exit 1; }
if [ "$missing" ]; then
  command -v apt-get >/dev/null || { echo "the lab needs$missing, and there is no apt-get"; exit 1; }
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
    trap 'rm -f $policy' EXIT
  fi
  apt-get update -qq
  # shellcheck disable=SC2086  # a list of words
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
fi

fetch() { # architecture, Debian's suite
  [ -x "$lab/busybox-$1" ] && return
  apt="$lab/apt-$1"
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/unpacked"
  mirror=$(sed -n 's/^URIs: *//p; s/^deb \([^ ]*\) .*/\1/p' /etc/apt/sources.list.d/debian.sources \
    /etc/apt/sources.list 2>/dev/null | grep -m 1 'debian/*$' || echo http://deb.debian.org/debian)
  echo "deb [arch=$1 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $2 main" \
    >"$apt/sources.list"
  set -- "$1" -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=- \
    -o "Dir::State::lists=$apt/lists" -o "Dir::State::status=/dev/null" \
    -o "Dir::Cache=$apt/cache" -o "APT::Architecture=$1" -o "APT::Architectures=$1" \
    -o APT::Sandbox::User=root
  architecture=$1
  shift
  apt-get "$@" -qq update
  (cd "$apt" && apt-get "$@" -qq download "busybox-static:$architecture")
  dpkg-deb -x "$apt"/busybox-static_*.deb "$apt/unpacked"
  cp "$(find "$apt/unpacked" -path "*/bin/busybox" -type f)" "$lab/busybox-$architecture"
  rm -rf "$apt"
}
fetch arm64 bookworm
fetch armhf bookworm
fetch riscv64 trixie
