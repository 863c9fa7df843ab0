let
  defaults = {
    system = "x86_64-linux";
    builder = "/bin/sh";
    PATH = "/bin:/usr/bin";
    LANG = "C";
  };
  make = name: attributes: derivation (defaults // { inherit name; } // attributes);
in
builtins.mapAttrs make {
  simple.args = [ "-c" "echo hi > $out" ];

  no-args = {
    name = "no-args-1.0+b?=_";
    builder = "/bin/true";
  };

  coercions = {
    yes = true;
    no = false;
    number = -42;
    zero = 0;
    largest = 9223372036854775807;
    hexadecimal = 255;
    real = 1.5;
    small = 1.0e-7;
    large = 1.0e20;
    empty = "";
    list = [ "a" 1 true false 2.25 "b c" ];
    nothing = [ ];
    nested = [ [ "a" "b" ] [ ] [ "c" [ ] ] [ [ ] ] "d" ];
    LANG = "de_DE.UTF-8";
  };

  strings = {
    args = [ "" "-e" "two\nlines\ttab\r \"quoted\" \\ back" ];
    umlaut = "äöü ☃ 日本語 🔥";
    "naïve key" = "1";
    shell = "$HOME \${HOME} $(x) $$ '";
    script = ''
      for x in ''${list[@]}; do
        echo "''${x%.o}" \
      done
    '';
    control = builtins.fromJSON ''"\u0001\u007f"'';
  };

  several.outputs = [ "dev" "out" "a.b+c" ];

  only-lib.outputs = [ "lib" ];

  stated-out = {
    outputs = [ "out" ];
    preferLocalBuild = true;
    requiredSystemFeatures = [ "kvm" "big-parallel" ];
  };
}
