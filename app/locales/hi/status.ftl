# The status page.
status-title = ऊर्जा: क्या आ रहा है
status-heading = क्या आ रहा है
status-live = चालू
status-stale = जवाब नहीं
status-card = उपभोक्ता का कार्ड खोलें
meters-heard = संपर्क में मीटर
meters-of = { $registered } में से { $heard }
meters-recent = इनमें से { $count } पिछले { $minutes } मिनट में
meters-last = आख़िरी { $time }
frames-received = मिले फ़्रेम
frames-rate = { $rate } प्रति सेकंड
frames-waiting = { $count } पंजीकरण के इंतज़ार में
rows-total = तालिकाओं में पंक्तियाँ
gap-ranges =
    { $count ->
        [one] { $count } अंतराल की रीडिंग बाकी
       *[other] { $count } अंतरालों की रीडिंग बाकी
    }
balance-all = कुल बैलेंस, दर्ज
accounts-count =
    { $count ->
        [one] { $count } खाता
       *[other] { $count } खाते
    }
conservation = हर फ़्रेम का हिसाब
conservation-why = मिले = सहेजे + दोहराए + अलग रखे + लौटाए + जाँच में
source = स्रोत
source-tcp = TCP
source-udp = UDP
source-mqtt = MQTT
source-waiting = इंतज़ार के बाद लिए गए
received = मिले
stored = सहेजे
repeated = दोहराए
quarantined = अलग रखे
refused = लौटाए
contested = जाँच में
adds-up = हिसाब बराबर
adds-up-yes = ✓ हाँ
adds-up-no = ✗ नहीं
charges = शुल्क
charges-recharged = कुल रिचार्ज
charges-charged = कुल शुल्क
charges-accrued = उसके बाद की खपत, अभी दर्ज नहीं
charges-closed = इस दिन तक दर्ज
charges-sum = सभी प्रविष्टियों का योग
charges-sum-zero = { $sum } (✓ बराबर)
charges-sum-broken = { $sum } (✗ शून्य होना चाहिए)
positions = जर्नल में स्थान
positions-durable = सुरक्षित
positions-applied = लागू
positions-committed = फ़ाइलों में
tables = तालिका के अनुसार पंक्तियाँ
table = तालिका
rows = पंक्तियाँ
