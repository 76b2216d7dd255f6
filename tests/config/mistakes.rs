//! Wrong configurations and every line that is told about them.

/// The text, then every line of the report without the file's name and without the count.
pub const MISTAKES: &[(&str, &[&str])] = &[
    (
        "[server]\nlisten = \"localhost:8080\"",
        &[
            "2:10: server.listen: found \"localhost:8080\"; expected an IP address and a port such as \"127.0.0.1:8080\" or \"[::]:8080\"",
        ],
    ),
    (
        "[server]\nlisten = 8080",
        &[
            "2:10: server.listen: found 8080; expected an IP address and a port such as \"127.0.0.1:8080\" or \"[::]:8080\"",
        ],
    ),
    (
        "[server]\nlisten = \"0.0.0.0:8080\"",
        &[
            "2:10: server.listen: 0.0.0.0:8080 can be reached from other machines and nothing guards it; set access.token_file (or access.token), or access.anonymous = true to let everybody watch, or listen on 127.0.0.1",
        ],
    ),
    (
        "[server]\nlisten = \"[::]:8080\"\n[access]\ntoken = \"short\"",
        &[
            "4:9: access.token: found a token that is too short; expected 16 to 256 letters, digits or -._~+/=",
        ],
    ),
    (
        "[server]\nallowed_origins = [\"*\", \"https://a.example/x\", \"https://a.example\", \"https://A.example\", 1]",
        &[
            "2:20: server.allowed_origins[1]: found \"*\"; expected a site such as \"https://panel.example\", with no path; each is named, \"*\" is not accepted",
            "2:25: server.allowed_origins[2]: found \"https://a.example/...\"; expected a site such as \"https://panel.example\", with no path; each is named, \"*\" is not accepted",
            "2:69: server.allowed_origins[4]: \"https://A.example\" is there twice",
            "2:90: server.allowed_origins[5]: found 1; expected a string",
        ],
    ),
    (
        "[server]\nhosts = [\"cam.example:80\", \"-x\"]",
        &[
            "2:10: server.hosts[1]: found \"cam.example:80\"; expected a host name such as \"cam.example\", with no port",
            "2:28: server.hosts[2]: found \"-x\"; expected a host name such as \"cam.example\", with no port",
        ],
    ),
    (
        "server = 5",
        &["1:10: server: found 5; expected a table, written [server]"],
    ),
    (
        "[[server]]",
        &["1:1: server: found a list; expected a table, written [server]"],
    ),
    (
        "[access]\ntoken = \"too-short\"",
        &[
            "2:9: access.token: found a token that is too short; expected 16 to 256 letters, digits or -._~+/=",
        ],
    ),
    (
        "[access]\ntoken = \"sixteen letters with blanks\"",
        &[
            "2:9: access.token: found a token with a character that a header cannot carry; expected 16 to 256 letters, digits or -._~+/=",
        ],
    ),
    (
        "[access]\ntoken = 12345678901234567890",
        &["2:9: access.token: found a value of type integer; expected a string"],
    ),
    (
        "[access]\ntoken = \"0123456789abcdef\"\ntoken_file = \"/token\"",
        &["3:1: access.token_file: access.token is there too; keep one of the two"],
    ),
    (
        "[access]\ntoken = \"0123456789abcdef\"\nanonymous = true",
        &[
            "3:13: access.anonymous: a token is set and nobody would be asked for it; remove one of the two",
        ],
    ),
    (
        "[access]\ntoken_file = \"missing\"",
        &["2:14: access.token_file: cannot read \"dir/missing\": entity not found"],
    ),
    (
        "[access]\ntoken_file = \"/empty\"",
        &["2:14: access.token_file: cannot read \"/empty\": the file is empty"],
    ),
    (
        "[access]\ntoken_file = \"/short\"",
        &[
            "2:14: access.token_file: found a token that is too short; expected 16 to 256 letters, digits or -._~+/=",
        ],
    ),
    (
        "[access]\ntoken_file = \"\"",
        &["2:14: access.token_file: found \"\"; expected the name of a file"],
    ),
    (
        "[ice]\nport = 65536\nmtu = 575\ndscp = 64",
        &[
            "2:8: ice.port: found 65536; expected a whole number, 0 to 65535",
            "3:7: ice.mtu: found 575; expected a whole number, 576 to 1500",
            "4:8: ice.dscp: found 64; expected a whole number, 0 to 63",
        ],
    ),
    (
        "[ice]\nport = -1\nmtu = 1200.5\ndscp = \"EF\"",
        &[
            "2:8: ice.port: found -1; expected a whole number, 0 to 65535",
            "3:7: ice.mtu: found 1200.5; expected a whole number, 576 to 1500",
            "4:8: ice.dscp: found \"EF\"; expected a whole number, 0 to 63",
        ],
    ),
    (
        "[ice]\nport = 99999999999999999999999999\nmtu = true",
        &[
            "2:8: ice.port: found 999999999999999999999999...; expected a whole number, 0 to 65535",
            "3:7: ice.mtu: found true; expected a whole number, 576 to 1500",
        ],
    ),
    (
        "[ice]\ninterfaces = \"eth0\"",
        &["2:14: ice.interfaces: found \"eth0\"; expected a list of strings"],
    ),
    (
        "[ice]\ninterfaces = [\"eth0\", \"a-very-long-interface\", \"eth0\"]",
        &[
            "2:23: ice.interfaces[2]: found \"a-very-long-interface\"; expected the name of a network interface such as \"eth0\" or \"wlan*\"",
            "2:48: ice.interfaces[3]: \"eth0\" is there twice",
        ],
    ),
    (
        "[ice]\ninterfaces = [\"eth0\"]\nexclude = [\"eth0\"]",
        &["3:11: ice.exclude: \"eth0\" is also in ice.interfaces; keep one of the two"],
    ),
    (
        "[ice]\nexclude = [\"*\"]",
        &[
            "2:11: ice.exclude: \"*\" leaves no interface to reach viewers on; remove it or set ice.advertise",
        ],
    ),
    (
        "[ice]\nstun = [\"stun.example\", \"stun:a b\", \"turn:t.example\", \"stun:x:0\", \"stun:y>:1\"]",
        &[
            "2:9: ice.stun[1]: found \"stun.example\"; expected a STUN server such as \"stun:stun.example:3478\"",
            "2:25: ice.stun[2]: found \"stun:a b\"; expected a STUN server such as \"stun:stun.example:3478\"",
            "2:37: ice.stun[3]: found \"turn:t.example\"; expected a STUN server such as \"stun:stun.example:3478\"",
            "2:55: ice.stun[4]: found \"stun:x:0\"; expected a STUN server such as \"stun:stun.example:3478\"",
            "2:67: ice.stun[5]: found \"stun:y>:1\"; expected a STUN server such as \"stun:stun.example:3478\"",
        ],
    ),
    (
        "[ice]\nadvertise = [\"0.0.0.0\", \"fe80::1\", \"name\", \"224.0.0.1\"]",
        &[
            "2:14: ice.advertise[1]: found \"0.0.0.0\"; expected an IP address that viewers can send to, such as \"203.0.113.7\"",
            "2:25: ice.advertise[2]: found \"fe80::1\"; expected an IP address that viewers can send to, such as \"203.0.113.7\"",
            "2:36: ice.advertise[3]: found \"name\"; expected an IP address that viewers can send to, such as \"203.0.113.7\"",
            "2:44: ice.advertise[4]: found \"224.0.0.1\"; expected an IP address that viewers can send to, such as \"203.0.113.7\"",
        ],
    ),
    (
        "[latency]\nmode = \"slow\"",
        &["2:8: latency.mode: found \"slow\"; expected \"low\" or \"smooth\""],
    ),
    (
        "[limits]\nviewers = 0\nsetup_timeout = 10\nsession_age = \"never\"",
        &[
            "2:11: limits.viewers: found 0; expected a whole number, 1 to 10000",
            "3:17: limits.setup_timeout: found 10; expected a time with its unit such as \"10s\" or \"250ms\", 1s to 5m",
            "4:15: limits.session_age: found \"never\"; expected \"none\" or a time with its unit such as \"10s\" or \"250ms\", 1m to 365d",
        ],
    ),
    (
        "[limits]\negress = \"2Mbit\"\nqueue = \"4Mi\"\nbody = \"1GiB\"",
        &[
            "2:10: limits.egress: found \"2Mbit\"; expected bits per second such as \"2M\", 100k to 100G",
            "3:9: limits.queue: found \"4Mi\"; expected a size in bytes such as \"512KiB\", 256KiB to 256MiB",
            "4:8: limits.body: found \"1GiB\"; expected a size in bytes such as \"512KiB\", 16KiB to 1MiB",
        ],
    ),
    (
        "[limits]\nrequests = 1979-05-27T07:32:00Z\nconnections = []",
        &[
            "2:12: limits.requests: found a date or time; expected a whole number, 1 to 100000",
            "3:15: limits.connections: found a list; expected a whole number, 1 to 65536",
        ],
    ),
    (
        "listen = \"127.0.0.1:80\"\n[cameras]\n[something]",
        &[
            "1:1: unknown key \"listen\"; it belongs to [server]",
            "2:2: unknown key \"cameras\"; did you mean \"camera\"?",
            "3:2: unknown key \"something\"; accepted: server, access, ice, latency, limits, camera",
        ],
    ),
    (
        "[ice]\nstall = \"5s\"\nusernme = \"x\"\nprot = 1",
        &[
            "2:1: ice: unknown key \"stall\"; it belongs to [[camera]]",
            "3:1: ice: unknown key \"usernme\"; accepted: port, interfaces, exclude, advertise, stun, mtu, dscp",
            "4:1: ice: unknown key \"prot\"; did you mean \"port\"?",
        ],
    ),
    (
        "[camera]\nname = \"door\"",
        &[
            "1:1: camera: found a table; expected a list of tables, each written [[camera]]",
            "1:1: camera[1] \"door\": `source` is missing; expected \"rtsp://HOST/PATH\", \"v4l2:DEVICE\", \"file:CLIP\" or \"pattern:\"",
        ],
    ),
    (
        "camera = [\"door\"]",
        &["1:11: camera[1]: found \"door\"; expected a list of tables, each written [[camera]]"],
    ),
    (
        "[[camera]]",
        &[
            "1:1: camera[1]: `name` is missing; the name is the last part of the camera's URL, such as \"door\"",
            "1:1: camera[1]: `source` is missing; expected \"rtsp://HOST/PATH\", \"v4l2:DEVICE\", \"file:CLIP\" or \"pattern:\"",
        ],
    ),
    (
        "[[camera]]\nname = \"a\"\nsource = \"pattern:\"\n[[camera]]\nname = \"a\"\nsource = \"pattern:\"",
        &["5:8: camera[2] \"a\" .name: camera[1] has this name too; names are unique"],
    ),
    (
        "[[camera]]\nname = \"front door\"\nsource = \"pattern:\"",
        &[
            "2:8: camera[1] \"front door\" .name: found \"front door\"; expected 1 to 64 letters, digits, - _ or .",
        ],
    ),
    (
        "[[camera]]\nname = \"..\"\nsource = \"pattern:\"\n[[camera]]\nname = \"session\"\nsource = \"pattern:\"\n[[camera]]\nname = \"\"\nsource = \"pattern:\"",
        &[
            "2:8: camera[1] \"..\" .name: found \"..\"; expected 1 to 64 letters, digits, - _ or .",
            "5:8: camera[2] \"session\" .name: found \"session\"; expected another name; this one is taken in URLs",
            "8:8: camera[3] \"\" .name: found \"\"; expected 1 to 64 letters, digits, - _ or .",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"v4l2:\"",
        &[
            "3:10: camera[1] \"door\" .source: found \"v4l2:\"; expected \"v4l2:\" and a name out of /dev/v4l/by-id or by-path, or \"v4l2:/dev/video0\" (`pinhole devices` lists them)",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"v4l2:video 0\"",
        &[
            "3:10: camera[1] \"door\" .source: found \"v4l2:video 0\"; expected \"v4l2:\" and a name out of /dev/v4l/by-id or by-path, or \"v4l2:/dev/video0\" (`pinhole devices` lists them)",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"v4l2:/etc/passwd\"",
        &[
            "3:10: camera[1] \"door\" .source: found \"v4l2:/etc/passwd\"; expected \"v4l2:\" and a name out of /dev/v4l/by-id or by-path, or \"v4l2:/dev/video0\" (`pinhole devices` lists them)",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"v4l2:/dev/../x\"",
        &[
            "3:10: camera[1] \"door\" .source: found \"v4l2:/dev/../x\"; expected \"v4l2:\" and a name out of /dev/v4l/by-id or by-path, or \"v4l2:/dev/video0\" (`pinhole devices` lists them)",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"v4l2:a/b\"",
        &[
            "3:10: camera[1] \"door\" .source: found \"v4l2:a/b\"; expected \"v4l2:\" and a name out of /dev/v4l/by-id or by-path, or \"v4l2:/dev/video0\" (`pinhole devices` lists them)",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"v4l2:/dev/video0\"\nencoder = \"gpu\"\ntransport = \"tcp\"\ncontrols = { Brightness = 1, gain = 1.5, hue = [], power = \"\" }",
        &[
            "4:11: camera[1] \"door\" .encoder: found \"gpu\"; expected \"auto\", \"hardware\" or \"software\"",
            "5:1: camera[1] \"door\" .transport: this key belongs to an `rtsp://` source; remove it",
            "6:27: camera[1] \"door\" .controls.Brightness: found \"Brightness\"; expected the name of a control in lower case, with _ for blanks",
            "6:37: camera[1] \"door\" .controls.gain: found 1.5; expected a whole number, true, false or a word of a menu",
            "6:48: camera[1] \"door\" .controls.hue: found a list; expected a whole number, true, false or a word of a menu",
            "6:60: camera[1] \"door\" .controls.power: found \"\"; expected a whole number, true, false or a word of a menu",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"v4l2:/dev/video0\"\ncontrols = 5",
        &[
            "4:12: camera[1] \"door\" .controls: found 5; expected a table such as { brightness = 128, power_line_frequency = \"50 Hz\" }",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"file:\"",
        &[
            "3:10: camera[1] \"door\" .source: found \"file:\"; expected \"file:\" and the name of an .mp4 or .h264 file, such as \"file:clip.mp4\" or \"file:/srv/clip.h264\"",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"file://host/x.mp4\"",
        &[
            "3:10: camera[1] \"door\" .source: found \"file://host/...\"; expected \"file:\" and the name of an .mp4 or .h264 file, such as \"file:clip.mp4\" or \"file:/srv/clip.h264\"",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"file:clips/\"",
        &[
            "3:10: camera[1] \"door\" .source: found \"file:clips/\"; expected \"file:\" and the name of an .mp4 or .h264 file, such as \"file:clip.mp4\" or \"file:/srv/clip.h264\"",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"file:x.mp4\"\nbitrate = \"1M\"\ntransport = \"tcp\"",
        &[
            "4:1: camera[1] \"door\" .bitrate: this key belongs to a `pattern:` or `v4l2:` source; remove it",
            "5:1: camera[1] \"door\" .transport: this key belongs to an `rtsp://` source; remove it",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"rtsps://h/p\"",
        &[
            "3:10: camera[1] \"door\" .source: `rtsps://` (RTSP over TLS) is not in this version; use \"rtsp://HOST/PATH\", \"v4l2:DEVICE\", \"file:CLIP\" or \"pattern:\"",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"http://h/p\"",
        &[
            "3:10: camera[1] \"door\" .source: found \"http:...\"; expected \"rtsp://HOST/PATH\", \"v4l2:DEVICE\", \"file:CLIP\" or \"pattern:\"",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"192.0.2.7\"",
        &[
            "3:10: camera[1] \"door\" .source: found \"192.0.2.7\"; expected \"rtsp://HOST/PATH\", \"v4l2:DEVICE\", \"file:CLIP\" or \"pattern:\"",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"pattern:clock\"",
        &[
            "3:10: camera[1] \"door\" .source: found \"pattern:\" and more; expected \"pattern:\" alone; its keys are size, fps and bitrate",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"rtsp:///p\"",
        &[
            "3:10: camera[1] \"door\" .source: found a URL without a host; expected \"rtsp://HOST[:PORT]/PATH\"; in a user name or password write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23 and % as %25",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"rtsp://u:p#w@h/p\"",
        &[
            "3:10: camera[1] \"door\" .source: found a bad URL (invalid port number); expected \"rtsp://HOST[:PORT]/PATH\"; in a user name or password write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23 and % as %25",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"rtsp://h/a b\"",
        &[
            "3:10: camera[1] \"door\" .source: found a URL with blanks or control characters; expected \"rtsp://HOST[:PORT]/PATH\"; in a user name or password write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23 and % as %25",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"rtsp://u:%zz@h/\"",
        &[
            "3:10: camera[1] \"door\" .source: found a bad % in a URL; expected \"rtsp://HOST[:PORT]/PATH\"; in a user name or password write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23 and % as %25",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"rtsp://h/p\"\nsub = \"rtsp://h/q\"\nencoder = \"auto\"\ncontrols = {}",
        &[
            "4:1: camera[1] \"door\" .sub: this key is not in this version; remove it",
            "5:1: camera[1] \"door\" .encoder: this key belongs to a `v4l2:` source; remove it",
            "6:1: camera[1] \"door\" .controls: this key belongs to a `v4l2:` source; remove it",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"rtsp://h/p\"\nsize = \"640x480\"\nfps = 5\nbitrate = \"1M\"",
        &[
            "4:1: camera[1] \"door\" .size: this key belongs to a `pattern:` or `v4l2:` source; remove it",
            "5:1: camera[1] \"door\" .fps: this key belongs to a `pattern:`, `v4l2:` or `file:` source; remove it",
            "6:1: camera[1] \"door\" .bitrate: this key belongs to a `pattern:` or `v4l2:` source; remove it",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"pattern:\"\nusername = \"u\"\ntransport = \"tcp\"",
        &[
            "4:1: camera[1] \"door\" .username: this key belongs to an `rtsp://` source; remove it",
            "5:1: camera[1] \"door\" .transport: this key belongs to an `rtsp://` source; remove it",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"pattern:\"\nsize = \"641x480\"\nfps = 0\nbitrate = \"1k\"",
        &[
            "4:8: camera[1] \"door\" .size: found \"641x480\"; expected a picture size such as \"1280x720\", even sides of 64 to 3840",
            "5:7: camera[1] \"door\" .fps: found 0; expected a whole number, 1 to 60",
            "6:11: camera[1] \"door\" .bitrate: found \"1k\"; expected bits per second such as \"2M\", 50k to 100M",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"rtsp://u:p@h/p\"\nusername = \"u\"",
        &[
            "4:1: camera[1] \"door\" .username: the URL of `source` holds a user name already; keep one of the two",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"rtsp://h/p\"\npassword = \"x\"",
        &["4:1: camera[1] \"door\" .password: there is no `username` to go with it"],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"rtsp://h/p\"\nusername = \"u\"\npassword = \"x\"\npassword_file = \"password\"",
        &["6:1: camera[1] \"door\" .password_file: `password` is there too; keep one of the two"],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"rtsp://h/p\"\ntransport = \"quic\"\non_demand = \"yes\"\nlinger = \"2d\"\nstall = \"0s\"\nmax_errors = 0\nmax_viewers = 0\ngop_cache = \"1TiB\"",
        &[
            "4:13: camera[1] \"door\" .transport: found \"quic\"; expected \"auto\", \"tcp\" or \"udp\"",
            "5:13: camera[1] \"door\" .on_demand: found \"yes\"; expected true or false",
            "6:10: camera[1] \"door\" .linger: found \"2d\"; expected a time with its unit such as \"10s\" or \"250ms\", 0ms to 1d",
            "7:9: camera[1] \"door\" .stall: found \"0s\"; expected a time with its unit such as \"10s\" or \"250ms\", 500ms to 1h",
            "8:14: camera[1] \"door\" .max_errors: found 0; expected a whole number, 1 to 10000",
            "9:15: camera[1] \"door\" .max_viewers: found 0; expected a whole number, 1 to 10000",
            "10:13: camera[1] \"door\" .gop_cache: found \"1TiB\"; expected a size in bytes such as \"512KiB\", 0 to 256MiB",
        ],
    ),
    (
        "[[camera]]\nname = \"door\"\nsource = \"rtsp://h/p\"\nstal = \"5s\"",
        &["4:1: camera[1] \"door\": unknown key \"stal\"; did you mean \"stall\"?"],
    ),
    (
        "[ice]\nmtu = 9\nport =\ndscp = 99",
        &[
            "2:7: ice.mtu: found 9; expected a whole number, 576 to 1500",
            "3:7: not TOML: string values must be quoted, expected literal string",
        ],
    ),
    (
        "[ice]\nmtu = 1200\nmtu = 1300\ndscp = 99",
        &[
            "3:1: not TOML: duplicate key",
            "4:8: ice.dscp: found 99; expected a whole number, 0 to 63",
        ],
    ),
    (
        "[ice\nmtu = 9",
        &["1:5: not TOML: unclosed table, expected `]`"],
    ),
    (
        "ice.mtu = \"1200",
        &["1:16: not TOML: invalid basic string, expected `\"`"],
    ),
];
