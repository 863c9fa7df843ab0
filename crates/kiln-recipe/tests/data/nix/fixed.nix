let
  make = name: attributes: derivation ({
    inherit name;
    builder = "/bin/sh";
    system = "x86_64-linux";
    args = [ "-c" "echo hello > $out" ];
  } // attributes);
  sha256 = "sha256-WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM=";
  all = builtins.mapAttrs make {
    sri.outputHash = sha256;
    sri-stated = { outputHash = sha256; outputHashAlgo = "sha256"; outputHashMode = "flat"; };
    base16 = {
      outputHash = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
      outputHashAlgo = "sha256";
    };
    nix32 = {
      outputHash = "00xyyr3fi8l6hb839bv3f7yb86yjv7xi1cgh1xnhipym4asvb4aq";
      outputHashAlgo = "sha256";
    };
    prefixed.outputHash = "sha256:00xyyr3fi8l6hb839bv3f7yb86yjv7xi1cgh1xnhipym4asvb4aq";
    recursive = { outputHash = sha256; outputHashMode = "recursive"; };
    sha1 = {
      outputHash = "f572d396fae9206628714fb2ce00f72e94f2258f";
      outputHashAlgo = "sha1";
      outputHashMode = "recursive";
    };
    md5 = {
      outputHash = "b1946ac92492d2347c6235b4d2611184";
      outputHashAlgo = "md5";
      outputs = [ "out" ];
    };
    sha512.outputHash =
      "sha512-58IrmUxZ2c8rSOVJseJGZmNgRZMNPafBrLKZ0cO3+TH5Sq5B7dosKyB6NuEPi8uNRSI+VIePWzFufOO2vAGWKQ==";
    unknown = { outputHash = ""; outputHashAlgo = "sha256"; };

    user = {
      args = [ "-c" "cat $one $two > $out" ];
      one = "${all.sri}";
      two = all.recursive.out;
    };

    elsewhere = {
      name = "sri";
      args = [ "-c" "echo hello, but otherwise > $out" ];
      outputHash = sha256;
    };

    user-elsewhere = {
      name = "user";
      args = [ "-c" "cat $one $two > $out" ];
      one = "${all.elsewhere}";
      two = all.recursive.out;
    };
  };
in
all
