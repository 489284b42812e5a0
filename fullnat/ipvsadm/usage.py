# SPDX-License-Identifier: Apache-2.0
"""`ipvsadm -v`, which programs look at and is ipvsadm's to the byte, and -h, which is our own."""

from __future__ import annotations

VERSION = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n"

_HELP = """\
{version}Usage: {program} COMMAND [OPTION]...; without a command, list the services

Services
  -A, --add-service SERVICE [SETTING]...
  -E, --edit-service SERVICE [SETTING]...   settings that are not given go back to their defaults
  -D, --delete-service SERVICE
  -C, --clear                               delete all services
  -Z, --zero [SERVICE]                      set counters to zero
 SERVICE is one of
  -t, --tcp-service HOST[:PORT]             IPv6 as [ADDRESS]:PORT
  -u, --udp-service HOST[:PORT]
      --sctp-service HOST[:PORT]
  -f, --fwmark-service MARK [-6, --ipv6]    packets with a mark of netfilter
 SETTING
  -s, --scheduler NAME                      default wlc
  -b, --sched-flags FLAG[,FLAG]...          sh-port, sh-fallback, mh-port, mh-fallback, flag-1 to flag-3
  -p, --persistent [SECONDS]                clients stay on their server; default 360
  -M, --netmask MASK                        clients of one network stay together; IPv6: a prefix length
      --pe ENGINE                           what else makes a client: sip
  -o, --ops                                 every datagram on its own

Real servers
  -a, --add-server SERVICE -r HOST[:PORT] [OPTION]...
  -e, --edit-server SERVICE -r HOST[:PORT] [OPTION]...
  -d, --delete-server SERVICE -r HOST[:PORT]
 OPTION
  -b, --fullnat                             from a local address (as DPVS has it)
  -m, --masquerading                        NAT
  -g, --gatewaying                          direct routing (default)
  -i, --ipip                                in a tunnel; --tun-type ipip|gue|gre, --tun-port PORT,
                                            --tun-nocsum, --tun-csum, --tun-remcsum
  -w, --weight WEIGHT                       0 to 65535, default 1; 0: no new connections
  -x, --u-threshold COUNT                   no new connections from this many on; 0: no limit
  -y, --l-threshold COUNT                   until there are fewer than this

Local addresses (as DPVS has them)
  -P, --add-laddr SERVICE -z, --laddr ADDRESS [-F, --ifname DEVICE]
  -Q, --del-laddr SERVICE -z, --laddr ADDRESS [-F, --ifname DEVICE]
  -G, --get-laddr [SERVICE]

Listings
  -L, -l, --list [SERVICE]                  with --stats, --rate, --thresholds, --persistent-conn, --tun-info
  -L, -l, --list -c, --connection           connections; with --persistent-conn, what an engine goes by
  -L, -l, --list --timeout | --daemon
  -n, --numeric                             addresses and ports as numbers
  -X, --exact                               large numbers in full
      --nosort                              as the kernel has them; --sort is the default

The table as commands
  -S, --save [-n]                           to standard output
  -R, --restore                             from standard input

      --set TCP TCPFIN UDP                  timeouts in seconds; 0 leaves one as it is
      --start-daemon master|backup          with --mcast-interface, --syncid, --sync-maxlen, --mcast-group,
                                            --mcast-port, --mcast-ttl
      --stop-daemon master|backup [--syncid ID]
  -v, --version
  -h, --help
"""


def format_help(program: str = "ipvsadm") -> str:
    """Return what -h prints."""
    return _HELP.format(version=VERSION, program=program)
