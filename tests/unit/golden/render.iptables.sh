#!/bin/sh
# render.toml by iptables: fullnat render iptables -c render.toml
# The virtual and the local addresses must be this host's.
# Run again, this replaces what it made; where it fails, all is as it was.
# Otherwise than there: udp://203.0.113.10:53: scheduler wrr becomes chance, in proportion to weights
# Otherwise than there: udp://203.0.113.10:53: connection thresholds are not kept
# Otherwise than there: udp://203.0.113.10:53: persistence remembers 100 clients a server (more: modprobe xt_recent ip_list_tot=N)
# Otherwise than there: tcp://[2001:db8:1::10]:80: persistence remembers 100 clients a server (more: modprobe xt_recent ip_list_tot=N)
set -feu

if { iptables-save; ip6tables-save; } 2>/dev/null | grep -q '^:FULLNAT-web-1 '; then
	echo 'fullnat runs here as instance web-1, or has left its rules:' 'fullnat stop --instance web-1' >&2
	exit 1
fi

# ours PROGRAM TABLE: chains and rules of instance web-1, as PROGRAM-save prints them
ours() {
	"$1-save" 2>/dev/null | sed -n "/^\*$2\$/,/^COMMIT/p" | sed -n \
		-e 's/^\(:FULLNAT-web-1\.[^ ]*\) .*/\1 - [0:0]/p' \
		-e '/^-A FULLNAT-web-1\./{p;d;}' \
		-e '/ -j FULLNAT-web-1\.[a-z0-9]*$/p'
}

# saved PROGRAM: all of them, as input of load
saved() {
	for table in filter nat; do
		echo "*$table"
		ours "$1" "$table" | sed 's/^-A \([A-Z]*\) /-I \1 1 /'
		echo COMMIT
	done
}

# load PROGRAM: the rules on stdin, in place of ours, in one step
load() {
	while IFS= read -r line; do
		printf '%s\n' "$line"
		case $line in
		\**)
			old=$(ours "$1" "${line#?}")
			printf '%s\n' "$old" | sed -n -e '/^:/p'
			printf '%s\n' "$old" | sed -n -e '/^-A FULLNAT-web-1\./!s/^-A /-D /p'
			printf '%s\n' "$old" | sed -n -e 's/^:\([^ ]*\) .*/-X \1/p'
			;;
		esac
	done | "$1-restore" --noflush
}

# have PROGRAM RULES: the same, unless they are there
have() {
	[ "$(saved "$1")" = "$2" ] || printf '%s\n' "$2" | load "$1"
}

iptables=$(saved iptables)
ip6tables=$(saved ip6tables)
put_back() {
	have iptables "$iptables"
	have ip6tables "$ip6tables"
	echo "$0: failed; all is as it was before" >&2
}
trap '[ $? = 0 ] || put_back' EXIT
trap 'exit 1' HUP INT TERM

load iptables <<'EOF'
*nat
:FULLNAT-web-1.nat - [0:0]
:FULLNAT-web-1.s0 - [0:0]
:FULLNAT-web-1.r0 - [0:0]
:FULLNAT-web-1.r1 - [0:0]
:FULLNAT-web-1.r2 - [0:0]
:FULLNAT-web-1.s1 - [0:0]
:FULLNAT-web-1.r3 - [0:0]
:FULLNAT-web-1.r4 - [0:0]
:FULLNAT-web-1.s2 - [0:0]
:FULLNAT-web-1.snat - [0:0]
-A FULLNAT-web-1.nat -d 203.0.113.10 -p tcp -m tcp --dport 80 --syn -m comment --comment "fullnat web-1: to tcp://203.0.113.10:80" -g FULLNAT-web-1.s0
-A FULLNAT-web-1.nat -d 203.0.113.10 -p udp -m udp --dport 53 -m comment --comment "fullnat web-1: to udp://203.0.113.10:53" -g FULLNAT-web-1.s1
-A FULLNAT-web-1.nat -d 203.0.113.11 -p tcp -m tcp --dport 443 --syn -m comment --comment "fullnat web-1: to tcp://203.0.113.11:443" -g FULLNAT-web-1.s2
-A FULLNAT-web-1.s0 -m statistic --mode nth --every 3 --packet 0 -m comment --comment "fullnat web-1: pick" -g FULLNAT-web-1.r0
-A FULLNAT-web-1.s0 -m statistic --mode nth --every 2 --packet 0 -m comment --comment "fullnat web-1: pick" -g FULLNAT-web-1.r1
-A FULLNAT-web-1.s0 -m comment --comment "fullnat web-1: pick" -g FULLNAT-web-1.r2
-A FULLNAT-web-1.r0 -m comment --comment "fullnat web-1: its connection" -j CONNMARK --set-xmark 0x4000000/0x4000000
-A FULLNAT-web-1.r0 -p tcp -m comment --comment "fullnat web-1: to the server" -j DNAT --to-destination 198.19.0.11:8080
-A FULLNAT-web-1.r1 -m comment --comment "fullnat web-1: its connection" -j CONNMARK --set-xmark 0x4000000/0x4000000
-A FULLNAT-web-1.r1 -p tcp -m comment --comment "fullnat web-1: to the server" -j DNAT --to-destination 198.19.0.13:8080
-A FULLNAT-web-1.r2 -m comment --comment "fullnat web-1: its connection" -j CONNMARK --set-xmark 0x4000000/0x4000000
-A FULLNAT-web-1.r2 -p tcp -m comment --comment "fullnat web-1: to the server" -j DNAT --to-destination 198.19.0.14:8080
-A FULLNAT-web-1.s1 -m recent --name fullnat-web-1-udp-203.0.113.10:53-24-198.19.0.11:53 --mask 255.255.255.0 --rsource --update --seconds 300 -m comment --comment "fullnat web-1: as before" -g FULLNAT-web-1.r3
-A FULLNAT-web-1.s1 -m recent --name fullnat-web-1-udp-203.0.113.10:53-24-198.19.0.12:53 --mask 255.255.255.0 --rsource --update --seconds 300 -m comment --comment "fullnat web-1: as before" -g FULLNAT-web-1.r4
-A FULLNAT-web-1.s1 -m statistic --mode random --probability 0.75000000000 -m comment --comment "fullnat web-1: pick" -g FULLNAT-web-1.r3
-A FULLNAT-web-1.s1 -m comment --comment "fullnat web-1: pick" -g FULLNAT-web-1.r4
-A FULLNAT-web-1.r3 -m comment --comment "fullnat web-1: its connection" -j CONNMARK --set-xmark 0x4000000/0x4000000
-A FULLNAT-web-1.r3 -m recent --name fullnat-web-1-udp-203.0.113.10:53-24-198.19.0.11:53 --mask 255.255.255.0 --rsource --set -m comment --comment "fullnat web-1: remembered"
-A FULLNAT-web-1.r3 -p udp -m comment --comment "fullnat web-1: to the server" -j DNAT --to-destination 198.19.0.11:53
-A FULLNAT-web-1.r4 -m comment --comment "fullnat web-1: its connection" -j CONNMARK --set-xmark 0x4000000/0x4000000
-A FULLNAT-web-1.r4 -m recent --name fullnat-web-1-udp-203.0.113.10:53-24-198.19.0.12:53 --mask 255.255.255.0 --rsource --set -m comment --comment "fullnat web-1: remembered"
-A FULLNAT-web-1.r4 -p udp -m comment --comment "fullnat web-1: to the server" -j DNAT --to-destination 198.19.0.12:53
-A FULLNAT-web-1.snat -p tcp -m connmark --mark 0x4000000/0x4000000 -m conntrack --ctorigdst 203.0.113.10 --ctorigdstport 80 -m statistic --mode random --probability 0.66666666667 -m comment --comment "fullnat web-1: from a local address" -j SNAT --to-source 198.19.0.1-198.19.0.2:1024-32767
-A FULLNAT-web-1.snat -p tcp -m connmark --mark 0x4000000/0x4000000 -m conntrack --ctorigdst 203.0.113.10 --ctorigdstport 80 -m comment --comment "fullnat web-1: from a local address" -j SNAT --to-source 198.19.0.5:1024-32767
-A FULLNAT-web-1.snat -p udp -m connmark --mark 0x4000000/0x4000000 -m conntrack --ctorigdst 203.0.113.10 --ctorigdstport 53 -m statistic --mode random --probability 0.66666666667 -m comment --comment "fullnat web-1: from a local address" -j SNAT --to-source 198.19.0.1-198.19.0.2:1024-32767
-A FULLNAT-web-1.snat -p udp -m connmark --mark 0x4000000/0x4000000 -m conntrack --ctorigdst 203.0.113.10 --ctorigdstport 53 -m comment --comment "fullnat web-1: from a local address" -j SNAT --to-source 198.19.0.5:1024-32767
-A FULLNAT-web-1.snat -p tcp -m connmark --mark 0x4000000/0x4000000 -m conntrack --ctorigdst 203.0.113.11 --ctorigdstport 443 -m statistic --mode random --probability 0.66666666667 -m comment --comment "fullnat web-1: from a local address" -j SNAT --to-source 198.19.0.1-198.19.0.2:1024-32767
-A FULLNAT-web-1.snat -p tcp -m connmark --mark 0x4000000/0x4000000 -m conntrack --ctorigdst 203.0.113.11 --ctorigdstport 443 -m comment --comment "fullnat web-1: from a local address" -j SNAT --to-source 198.19.0.5:1024-32767
-I PREROUTING 1 -m comment --comment "fullnat web-1: nat" -j FULLNAT-web-1.nat
-I OUTPUT 1 -m comment --comment "fullnat web-1: nat" -j FULLNAT-web-1.nat
-I POSTROUTING 1 -m comment --comment "fullnat web-1: snat" -j FULLNAT-web-1.snat
COMMIT
*filter
:FULLNAT-web-1.kernel - [0:0]
-A FULLNAT-web-1.kernel -m connmark --mark 0x4000000/0x4000000 -m comment --comment "fullnat web-1: its connections" -j ACCEPT
-I FORWARD 1 -m comment --comment "fullnat web-1: kernel" -j FULLNAT-web-1.kernel
COMMIT
EOF
load ip6tables <<'EOF'
*nat
:FULLNAT-web-1.nat - [0:0]
:FULLNAT-web-1.s0 - [0:0]
:FULLNAT-web-1.r0 - [0:0]
:FULLNAT-web-1.r1 - [0:0]
:FULLNAT-web-1.s1 - [0:0]
:FULLNAT-web-1.r2 - [0:0]
:FULLNAT-web-1.snat - [0:0]
-A FULLNAT-web-1.nat -d 2001:db8:1::10 -p tcp -m tcp --dport 80 --syn -m comment --comment "fullnat web-1: to tcp://[2001:db8:1::10]:80" -g FULLNAT-web-1.s0
-A FULLNAT-web-1.nat -d 2001:db8:1::10 -p udp -m udp --dport 53 -m comment --comment "fullnat web-1: to udp://[2001:db8:1::10]:53" -g FULLNAT-web-1.s1
-A FULLNAT-web-1.s0 -m recent --name fullnat-web-1-tcp-[2001:db8:1::10]:80-60-[2001:db8:2::11]:8080 --mask ffff:ffff:ffff:fff0:: --rsource --update --seconds 60 -m comment --comment "fullnat web-1: as before" -g FULLNAT-web-1.r0
-A FULLNAT-web-1.s0 -m recent --name fullnat-web-1-tcp-[2001:db8:1::10]:80-60-[2001:db8:2::12]:8080 --mask ffff:ffff:ffff:fff0:: --rsource --update --seconds 60 -m comment --comment "fullnat web-1: as before" -g FULLNAT-web-1.r1
-A FULLNAT-web-1.s0 -m statistic --mode random --probability 0.50000000000 -m comment --comment "fullnat web-1: pick" -g FULLNAT-web-1.r0
-A FULLNAT-web-1.s0 -m comment --comment "fullnat web-1: pick" -g FULLNAT-web-1.r1
-A FULLNAT-web-1.r0 -m comment --comment "fullnat web-1: its connection" -j CONNMARK --set-xmark 0x4000000/0x4000000
-A FULLNAT-web-1.r0 -m recent --name fullnat-web-1-tcp-[2001:db8:1::10]:80-60-[2001:db8:2::11]:8080 --mask ffff:ffff:ffff:fff0:: --rsource --set -m comment --comment "fullnat web-1: remembered"
-A FULLNAT-web-1.r0 -p tcp -m comment --comment "fullnat web-1: to the server" -j DNAT --to-destination [2001:db8:2::11]:8080
-A FULLNAT-web-1.r1 -m comment --comment "fullnat web-1: its connection" -j CONNMARK --set-xmark 0x4000000/0x4000000
-A FULLNAT-web-1.r1 -m recent --name fullnat-web-1-tcp-[2001:db8:1::10]:80-60-[2001:db8:2::12]:8080 --mask ffff:ffff:ffff:fff0:: --rsource --set -m comment --comment "fullnat web-1: remembered"
-A FULLNAT-web-1.r1 -p tcp -m comment --comment "fullnat web-1: to the server" -j DNAT --to-destination [2001:db8:2::12]:8080
-A FULLNAT-web-1.s1 -m comment --comment "fullnat web-1: pick" -g FULLNAT-web-1.r2
-A FULLNAT-web-1.r2 -m comment --comment "fullnat web-1: its connection" -j CONNMARK --set-xmark 0x4000000/0x4000000
-A FULLNAT-web-1.r2 -p udp -m comment --comment "fullnat web-1: to the server" -j DNAT --to-destination [2001:db8:2::12]:53
-A FULLNAT-web-1.snat -p tcp -m connmark --mark 0x4000000/0x4000000 -m conntrack --ctorigdst 2001:db8:1::10 --ctorigdstport 80 -m statistic --mode random --probability 0.75000000000 -m comment --comment "fullnat web-1: from a local address" -j SNAT --to-source [2001:db8:2::1-2001:db8:2::3]:1024-32767
-A FULLNAT-web-1.snat -p tcp -m connmark --mark 0x4000000/0x4000000 -m conntrack --ctorigdst 2001:db8:1::10 --ctorigdstport 80 -m comment --comment "fullnat web-1: from a local address" -j SNAT --to-source [2001:db8:2::9]:1024-32767
-A FULLNAT-web-1.snat -p udp -m connmark --mark 0x4000000/0x4000000 -m conntrack --ctorigdst 2001:db8:1::10 --ctorigdstport 53 -m statistic --mode random --probability 0.75000000000 -m comment --comment "fullnat web-1: from a local address" -j SNAT --to-source [2001:db8:2::1-2001:db8:2::3]:1024-32767
-A FULLNAT-web-1.snat -p udp -m connmark --mark 0x4000000/0x4000000 -m conntrack --ctorigdst 2001:db8:1::10 --ctorigdstport 53 -m comment --comment "fullnat web-1: from a local address" -j SNAT --to-source [2001:db8:2::9]:1024-32767
-I PREROUTING 1 -m comment --comment "fullnat web-1: nat" -j FULLNAT-web-1.nat
-I OUTPUT 1 -m comment --comment "fullnat web-1: nat" -j FULLNAT-web-1.nat
-I POSTROUTING 1 -m comment --comment "fullnat web-1: snat" -j FULLNAT-web-1.snat
COMMIT
*filter
:FULLNAT-web-1.kernel - [0:0]
-A FULLNAT-web-1.kernel -m connmark --mark 0x4000000/0x4000000 -m comment --comment "fullnat web-1: its connections" -j ACCEPT
-I FORWARD 1 -m comment --comment "fullnat web-1: kernel" -j FULLNAT-web-1.kernel
COMMIT
EOF
sysctl -q -w net.ipv4.ip_forward=1
sysctl -q -w net.ipv6.conf.all.forwarding=1
