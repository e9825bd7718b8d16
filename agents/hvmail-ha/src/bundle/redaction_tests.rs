use super::*;

fn without(text: &[u8]) -> (String, usize) {
    let (text, count) = without_secrets(vec![text.to_vec()]).unwrap().remove(0);
    (String::from_utf8_lossy(&text).into_owned(), count)
}

#[test]
fn what_is_a_secret_by_what_stands_before_it_goes() {
    for (text, left) in [
        (r#"<nvpair id="a" name="passwd" value="hunter22"/>"#, r#"<nvpair id="a" name="passwd" value="[removed]"/>"#),
        (
            r#"<nvpair value="a>b c" id="a" name="Snmp_Community"/>"#,
            r#"<nvpair value="[removed]" id="a" name="Snmp_Community"/>"#,
        ),
        (r#"<nvpair id="a" name="ssh_key" value="x"/>"#, r#"<nvpair id="a" name="ssh_key" value="[removed]"/>"#),
        (r#"<nvpair id="a" name="token" value="x"/>"#, r#"<nvpair id="a" name="token" value="[removed]"/>"#),
        (
            "info: +  /cib/x/nvpair[@id='f-passwd']:  @value=a b, @name=c\nnext",
            "info: +  /cib/x/nvpair[@id='f-passwd']:  @value=[removed]\nnext",
        ),
        ("shared-secret \"some; word\";", "shared-secret \"[removed]\";"),
        ("shared-secret  plain;", "shared-secret  [removed];"),
        ("totem {\n  key: a b\n", "totem {\n  key: [removed] b\n"),
        ("host=a password=abc user=b", "host=a password=[removed] user=b"),
        ("host=a password = a;b,c&d<e user=b", "host=a password = [removed] user=b"),
        ("'host=a password=a''b user=b'", "'host=a password=[removed] user=b'"),
        ("primary_conninfo = 'user=b password=abc'\n", "primary_conninfo = 'user=b password=[removed]'\n"),
        ("x = 'host=a password=''x y'' user=b'", "x = 'host=a password=''[removed]'' user=b'"),
        (r"x = 'password=''it\''s'' user=b'", "x = 'password=''[removed]'' user=b'"),
        (r"'host=a password=\'x y\' user=b'", r"'host=a password=\'[removed]\' user=b'"),
        (r"password='it\'s' user=b", "password='[removed]' user=b"),
        (r#"value="password=&quot;x y&quot; user=b""#, r#"value="password=&quot;[removed]&quot; user=b""#),
        (r#"value="user=b password=abc"/>"#, r#"value="user=b password=[removed]"/>"#),
        ("password=\"not closed\nnext", "password=\"[removed]\nnext"),
        ("PGPASSWORD=abc psql", "PGPASSWORD=[removed] psql"),
        (r#"{"password": "abc \"def", "a": 1}"#, r#"{"password": "[removed]", "a": 1}"#),
        (r#"{\"password\": \"abc def\"}"#, r#"{\"password\": \"[removed]\"}"#),
        (r#"host all all all ldap ldapbindpasswd="a b""#, r#"host all all all ldap ldapbindpasswd="[removed]""#),
        (r#"radius radiussecrets="""a b"",""c""""#, r#"radius radiussecrets="[removed]""#),
        ("ssl_passphrase_command = 'echo abc'", "ssl_passphrase_command = '[removed]'"),
        ("fence_ipmilan --password abc -a 192.0.2.1", "fence_ipmilan --password [removed] -a 192.0.2.1"),
        ("ALTER ROLE a PASSWORD 'it''s';", "ALTER ROLE a PASSWORD '[removed]';"),
        (
            "archive_command = 'AWS_SECRET_ACCESS_KEY=abc/d+e wal-g wal-push %p'",
            "archive_command = 'AWS_SECRET_ACCESS_KEY=[removed] wal-g wal-push %p'",
        ),
        ("AZURE_STORAGE_ACCOUNT_KEY=abc== x", "AZURE_STORAGE_ACCOUNT_KEY=[removed] x"),
        ("s3_secret_key: abc", "s3_secret_key: [removed]"),
        ("wg_private_key = abc", "wg_private_key = [removed]"),
        ("GITHUB_TOKEN=abc x", "GITHUB_TOKEN=[removed] x"),
        ("//h/s /m cifs user=a,pass=b,ro 0 0", "//h/s /m cifs user=a,pass=[removed] 0 0"),
        ("//h/s /m cifs user=a,password=b,ro 0 0", "//h/s /m cifs user=a,password=[removed] 0 0"),
        (
            r#"<recipient id="r" value="https://h/x?to=a&amp;token=abc&amp;b=c"/>"#,
            r#"<recipient id="r" value="https://h/x?to=a&amp;token=[removed]&amp;b=c"/>"#,
        ),
        (r#"<recipient value="https://u:abc@h/x"/>"#, r#"<recipient value="https://u:[removed]@h/x"/>"#),
        ("Server=a;Password=b&c;User=d", "Server=a;Password=[removed]"),
        ("curl 'https://h/?sig=abc'", "curl 'https://h/?sig=[removed]'"),
        (r#"-H "Authorization: Bearer abc.def""#, r#"-H "Authorization: Bearer [removed]""#),
        ("postgres://u:a/b@c@host/db", "postgres://u:[removed]@host/db"),
        (
            "a\n-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\nb",
            "a\n-----BEGIN PRIVATE KEY-----[removed]-----END PRIVATE KEY-----\nb",
        ),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc", "-----BEGIN RSA PRIVATE KEY-----[removed]"),
        ("abc\ndef\n-----END EC PRIVATE KEY-----\nb", "[removed]-----END EC PRIVATE KEY-----\nb"),
        ("rolpassword SCRAM-SHA-256$4096:a$b:c", "rolpassword [removed]"),
        ("md50123456789abcdef0123456789ABCDEF", "[removed]"),
    ] {
        assert_eq!(without(text.as_bytes()), (left.to_owned(), 1), "{text}");
    }
}

#[test]
fn what_is_none_stays() {
    for text in [
        "FATAL:  password authentication failed for user \"x\"",
        r#"<nvpair id="a" name="ip" value="192.0.2.1"/>"#,
        r#"<nvpair id="p" name="passwd" value=""/>"#,
        "http://192.0.2.1:8080/a",
        "totem {\n  token: 3000\n  token_retransmits_before_loss_const: 10\n",
        "password_encryption = scram-sha-256",
        "https://h/x?page=2&sort=asc",
        "compass=north bypass=yes",
        "AWS_REGION=eu-1 wal-g; primary_key = id",
        "host all all 192.0.2.0/24 scram-sha-256",
        "ssl_key_file = 'server.key'",
        "password='' user='b'",
        "password=[removed]",
        "# cram-hmac-alg shared-secret allow-two-primaries",
        "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----",
    ] {
        assert_eq!(without(text.as_bytes()), (text.to_owned(), 0));
    }
}

#[test]
fn a_secret_goes_wherever_it_stands_again() {
    let texts: [&[u8]; 4] = [
        b"ran with hunter22, hunter and 12, password \xff a<b>c&d",
        b"password=hunter22 password=hunter pin_secret=12",
        br#"<nvpair name="auth" value="password"/><nvpair name="passwd" value="a&lt;b&gt;c&amp;d"/>"#,
        b"password=\xfe\xfd\xfc\xfb\xfa\xf9 twice \xfe\xfd\xfc\xfb\xfa\xf9",
    ];
    let left: [(&[u8], usize); 4] = [
        (b"ran with [removed], [removed] and 12, password \xff [removed]", 3),
        (b"password=[removed] password=[removed] pin_secret=[removed]", 3),
        (br#"<nvpair name="auth" value="[removed]"/><nvpair name="passwd" value="[removed]"/>"#, 2),
        (b"password=[removed] twice [removed]", 2),
    ];
    let found = without_secrets(texts.map(<[u8]>::to_vec).into()).unwrap();
    for ((text, count), wanted) in found.iter().zip(left) {
        assert_eq!((text.as_slice(), *count), wanted, "{}", String::from_utf8_lossy(text));
    }
}
